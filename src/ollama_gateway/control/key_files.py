"""Files of keys made elsewhere: CSV with a header, JSON lines, or lines `name,key`.

A CSV column is a field of a key (`name`, `key`, `models`, ...); a limit has its own column
(`tokens_per_day`). Lists are separated by spaces or commas, aliases are `NAME=MODEL` separated by
spaces. An empty cell leaves the field as it is for new keys. No message holds a key.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any, Final

import attrs

from ollama_gateway.control.errors import WrongInput
from ollama_gateway.control.key_input import NAMES, changes_from
from ollama_gateway.control.key_shapes import IMPORTED
from ollama_gateway.keys.importing import LineProblem, check_import, read_keys
from ollama_gateway.keys.key import KeyLimits, KeyRefused
from ollama_gateway.keys.store import ImportedKey

LIMITS: Final = tuple(field.name for field in attrs.fields(KeyLimits))
COLUMNS: Final = ("key", *(name for name in NAMES if name != "limits"), *LIMITS)
"""Of a CSV file; `name` and `key` are needed."""

Documents = Iterator[tuple[int, dict[str, Any] | str]]
"""The number of each line, and its document, or what is wrong with it."""


def keys_in(text: str) -> tuple[ImportedKey, ...]:
    """Read the keys of a file's text.

    Raises:
        KeyRefused: the file has problems; one line for each.

    """
    text = text.removeprefix("\ufeff")
    if text.lstrip().startswith("{"):
        documents = _json_lines(text)
    elif _has_header(text):
        documents = _rows(text)
    else:
        return read_keys(text)
    entries: list[ImportedKey] = []
    problems: list[LineProblem] = []
    for number, document in documents:
        if isinstance(document, str):
            problems.append((number, document))
        elif wrong := list(IMPORTED.problems(document)):
            problems += [(number, f"{one.where.lstrip('/')} {one.detail}") for one in wrong]
        else:
            try:
                rights = changes_from(document)
                entries.append(ImportedKey(document["name"], document["key"], number, rights))
            except (WrongInput, KeyRefused) as error:
                problems.append((number, str(error)))
    check_import(entries, problems)
    return tuple(entries)


def _has_header(text: str) -> bool:
    names = [name.strip() for name in text.partition("\n")[0].split(",")]
    return len(names) > 1 and {"name", "key"} <= set(names)


def _json_lines(text: str) -> Documents:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                yield number, "not JSON"


def _rows(text: str) -> Documents:
    reader = csv.DictReader(io.StringIO(text), skipinitialspace=True, strict=True)
    names = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    if unknown := [name for name in names if name not in COLUMNS]:
        yield 1, f"no column is named {unknown[0][:40]!r}; there are: {', '.join(COLUMNS)}"
        return
    try:
        for row in reader:
            if None in row or None in row.values():
                yield reader.line_num, "has not as many cells as the header"
            else:
                yield reader.line_num, _document(row)
    except csv.Error:
        yield reader.line_num, "not CSV"


def _document(row: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in row.items():
        text = cell.strip()
        if not text and name not in {"name", "key"}:
            continue
        if name in {"models", "endpoints"}:
            found[name] = _list(text)
        elif name == "aliases":
            pairs = (one.partition("=") for one in text.split())
            found[name] = {alias: _list(models) for alias, _, models in pairs}
        elif name in LIMITS:
            is_number = text.isascii() and text.isdigit() and len(text) <= len(str(2**53))
            found.setdefault("limits", {})[name] = int(text) if is_number else text
        else:
            found[name] = text
    return found


def _list(text: str) -> list[str]:
    return text.replace(",", " ").split()
