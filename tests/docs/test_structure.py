"""Readers find the pages and sections that others name, and pages list what they say they list."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ollama_gateway.cli.main import COMMANDS, command_named
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


@pytest.mark.parametrize("name", COMMANDS)
def test_the_reference_lists_every_command(name: str) -> None:
    """docs/use/commands.md has each command with its options, and no other (`commands.py`)."""
    page = (ROOT / "docs" / "use" / "commands.md").read_text()
    top = command_named(name)
    for path, command in [(name, top), *nested(name, top)]:
        (section,) = re.findall(
            rf"^##+ `gatewayctl {path}`\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL
        )
        options = {option for one in command.params for option in one.opts if option[:2] == "--"}
        assert set(re.findall(r"^\* `[^`]*?(--[a-z-]+)", section, re.MULTILINE)) == options - {
            "--help"
        }


def nested(name: str, command: Any) -> list[tuple[str, Any]]:
    """Return the commands of a group, with their paths."""
    found = getattr(command, "commands", {})
    return [(f"{name} {one.name}", one) for one in found.values()]
