"""The fenced blocks of the pages, and the scripts made of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = tuple(
    sorted(str(page.relative_to(ROOT)) for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
)
LANGUAGES: Final = ("console", "python")
"""The languages of blocks that are run."""
LEFT_OUT: Final = {
    "needs podman": 12,
    "needs systemd": 5,
    "needs another machine": 3,
    "needs PostgreSQL": 1,
    "needs this repository": 2,
    "needs a terminal": 2,
    "needs a client from npm": 1,
    "needs Ollama": 4,
    "shows a fault": 2,
    "run by another test": 7,
}
"""How many blocks are not run, by their `<!-- not run: REASON -->` on the line above the fence."""
MARKER: Final = "::block "
_BLOCK: Final = re.compile(
    r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n\n?)?"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$",
    re.MULTILINE | re.DOTALL,
)


@attrs.frozen
class Block:
    """One fenced block.

    Args:
        page: its page's path below the root.
        line: the line of its first fence.
        language: the word behind the fence.
        text: its lines, without the fences and their indentation.
        reason: why it is not run; None if it is.

    """

    page: str
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def is_run(self) -> bool:
        """Return True if the block is part of its page's script."""
        return self.language in LANGUAGES and self.reason is None

    @property
    def commands(self) -> str:
        """Return the block as lines of bash."""
        if self.language == "python":
            return f"python - <<'END'\n{self.text}END\n"
        if not self.text.startswith("$ "):
            return self.text
        return "".join(line[2:] + "\n" for line in self.text.splitlines() if line[:2] == "$ ")

    @property
    def heading(self) -> list[str]:
        """Return the words of the first line of output that the block shows, if it has no digits.

        Lines with digits are those of one run; a heading is the same in every run.
        """
        lines = self.text.splitlines()
        if not lines[0].startswith("$ ") or len(lines) == 1 or re.search(r"\d", lines[1]):
            return []
        return lines[1].split()


def blocks_of(page: str) -> list[Block]:
    """Return the blocks of a page, from the top."""
    return list(_blocks(page, (ROOT / page).read_text()))


def _blocks(page: str, text: str) -> Iterator[Block]:
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("language")) + 1
        indent = found["indent"]
        lines = (line.removeprefix(indent) for line in found["text"].splitlines(keepends=True))
        yield Block(page, line, found["language"], "".join(lines), found["reason"])


def script_of(page: str) -> str:
    """Return the blocks of a page that are run, as one bash script that says where it is."""
    return "".join(
        f"echo '{MARKER}{block.line}'\n{block.commands}"
        for block in blocks_of(page)
        if block.is_run
    )
