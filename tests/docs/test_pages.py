"""The commands and snippets of the pages work as they stand."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.blocks import LANGUAGES, LEFT_OUT, MARKER, PAGES, blocks_of, script_of
from tests.docs.stage import stage

BLOCKS = [block for page in PAGES for block in blocks_of(page)]


@pytest.mark.parametrize("page", [page for page in PAGES if script_of(page)])
def test_a_page_can_be_typed_in(page: str, tmp_path: Path) -> None:
    """Every command and snippet of a page works, in their order, and prints the shown headings."""
    with stage(tmp_path, Path(sys.executable).parent) as found:
        run = found.run(script_of(page))

    parts = dict(part.split("\n", 1) for part in run.output.split(MARKER)[1:])
    assert run.code == 0, (list(parts.items())[-1:], run.errors)
    for block in blocks_of(page):
        if block.is_run and block.heading:
            assert block.heading in [line.split() for line in parts[str(block.line)].splitlines()]


def test_every_block_is_run_or_says_why_not() -> None:
    """A block of commands that is not run says why, and all that say so are counted here."""
    reasons = Counter(b.reason for b in BLOCKS if b.language in LANGUAGES and b.reason)

    assert reasons == LEFT_OUT
