"""Find the line at which a settings file sets a value, which tomllib does not tell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ollama_gateway.printable import printable
from ollama_gateway.settings import files

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_HEADER: Final = re.compile(r"\s*(\[\[?)\s*([\w.-]+)\s*\]")
_KEY: Final = re.compile(r"\s*(?:\"([^\"]*)\"|'([^']*)'|([\w-]+))\s*=")
_PATH: Final = re.compile(r"([\w.-]+?)(?:\[(\d+)\])?(?:\.(?:([\w-]+)|\"([^\"]*)\"))?:")


def located(problems: Iterable[str], source: Path | None) -> list[str]:
    """Add the file and the line to each problem with a value of the settings file."""
    if source is None:
        return list(problems)
    try:
        text = files.read_text(source)
    except (OSError, ValueError):
        return list(problems)
    lines = [(problem, line_of(problem, text)) for problem in problems]
    name = printable(str(source))
    return [f"{p} ({name}, line {line})" if line else p for p, line in lines]


def line_of(problem: str, text: str) -> int | None:
    """Return the line, from 1, of the setting with which a problem begins; None if there is none.

    Args:
        problem: a line `race.hedge_after: ...`, `backends[1].url: ...`, `backends[1]: ...` or
            `aliases."gpt-4o": ...`.
        text: the file. What looks like a setting in a text of several lines may mislead this.

    """
    found = _PATH.match(problem)
    if found is None:
        return None
    section, index, *keys = found.groups()
    key = next((key for key in keys if key is not None), None)
    here, count = "", -1
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            here = header[2]
            count += here == section and header[1] == "[["
            is_it = here == section and (index is None or count == int(index))
            if is_it and key is None:
                return number
        elif here == section and (index is None or count == int(index)):
            name = _KEY.match(line)
            if name and key in name.groups():
                return number
    return None
