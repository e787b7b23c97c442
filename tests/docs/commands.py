"""Write the reference of the command line from the commands: `python -m tests.docs.commands`."""

from __future__ import annotations

import html
import re
from typing import Final

import typer
from typer.cli import get_docs_for_click

from ollama_gateway.cli.main import COMMANDS, command_named
from tests.docs.blocks import ROOT

PAGE: Final = ROOT / "docs" / "use" / "commands.md"
HEAD: Final = """\
# Commands

Every command and its options, as `--help` prints them; `-h` is short for `--help`.
[command-line.md](command-line.md) describes what they share. This page is made by
`python -m tests.docs.commands`.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(_described(name) for name in COMMANDS)


def _described(name: str) -> str:
    command = command_named(name)
    found = get_docs_for_click(
        obj=command, ctx=typer.Context(command), name=name, call_prefix="gatewayctl"
    )
    text = html.unescape(found).replace("```console\n$ ", "```text\n")
    text = re.sub(r"^\* `(-h, )?--help`: .*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\*\*Options\*\*:\n\n(?!\*)", "", text)
    text = re.sub(r"\n{3,}", "\n\n", text)
    return f"\n{re.sub(r'^#', '##', text, flags=re.MULTILINE).rstrip()}\n"


if __name__ == "__main__":
    PAGE.write_text(page())
