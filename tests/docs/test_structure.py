"""Readers find the pages and sections that others name, and pages list what they say they list."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ollama_gateway.flow.endpoints import (
    COUNTING,
    DESCRIPTIONS,
    INFERENCE,
    LISTINGS,
    MANAGEMENT,
    Endpoint,
)
from tests.docs.blocks import PAGES, ROOT

ENDPOINTS = (*INFERENCE, *COUNTING, *DESCRIPTIONS, *MANAGEMENT, *LISTINGS)
PLACEHOLDERS = {"": "", "model": "/NAME", "digest": "/DIGEST"}
OWN_INDEX = ("docs/decisions/", "docs/evidence/", "docs/operate/podman/")
"""Folders whose pages other pages link to as a whole, or from within."""


def fragments_of(page: Path) -> set[str]:
    """Return the fragments of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_to_sections_lead_there(page: str) -> None:
    """A link with a fragment names a heading of its page."""
    here = ROOT / page
    for target, fragment in re.findall(r"\]\(([^)#:]*)#([^)]+)\)", here.read_text()):
        there = (here.parent / target).resolve() if target else here
        assert fragment in fragments_of(there), (target, fragment)


def test_the_index_names_every_page() -> None:
    """A reader who starts at docs/README.md can reach every page."""
    index = (ROOT / "docs" / "README.md").read_text()
    pages = [page for page in PAGES if page.startswith("docs/") and not page.startswith(OWN_INDEX)]

    assert [p for p in pages if f"({p.removeprefix('docs/')})" not in index] == ["docs/README.md"]


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=str)
def test_the_reference_lists_every_endpoint(endpoint: Endpoint) -> None:
    """docs/use/api.md has each method and path that the gateway serves."""
    page = (ROOT / "docs" / "use" / "api.md").read_text()
    path = f"{endpoint.path}{PLACEHOLDERS[endpoint.parameter]}"

    assert f"`{endpoint.method} {path}`" in page
