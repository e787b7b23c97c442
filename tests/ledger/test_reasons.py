"""The table of reasons, held against the source that uses them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_gateway.reasons import Reason, words_of

SOURCE = Path(__file__).parent.parent.parent / "src" / "ollama_gateway"
FILES = [
    path
    for path in sorted(SOURCE.rglob("*.py"))
    if "simulator" not in path.relative_to(SOURCE).parts and path.name != "reasons.py"
]
POSITIONS = {"AttemptFailed": 0, "ModelDown": 0, "leave": 0, "_failed": 1, "failed": 1}
"""Calls that take a reason without naming the argument, and where it stands."""
NAMES = {"reason", "default_reason", "REASON", "_REASON", "NO_END", "DRAINING"}
"""Arguments, attributes and constants that hold a reason."""
NOT_OURS = {"missing", "reordered", "altered"}
"""Reasons of a broken chain (`ledger/chain.py`), which no request ends with."""


def reasons_in(tree: ast.AST) -> Iterator[str]:
    """Yield every word that the code uses as a reason."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=given):
                if name in POSITIONS and len(given) > POSITIONS[name]:
                    yield from texts(given[POSITIONS[name]])
            case ast.keyword(arg=name, value=value) if name in NAMES:
                yield from texts(value)
            case ast.Assign(targets=[target], value=value):
                yield from assigned(target, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                yield from assigned(target, value)
            case ast.arguments(args=arguments, defaults=defaults):
                for argument, value in zip(reversed(arguments), reversed(defaults), strict=False):
                    if argument.arg in NAMES:
                        yield from texts(value)


def assigned(target: ast.expr, value: ast.expr) -> Iterator[str]:
    """Yield the reasons that an assignment sets, of one target or a tuple of them."""
    match target, value:
        case ast.Tuple(elts=targets), ast.Tuple(elts=values):
            for one, its in zip(targets, values, strict=True):
                yield from assigned(one, its)
        case ((ast.Name(id=name) | ast.Attribute(attr=name)), _) if name in NAMES:
            yield from texts(value)


def texts(value: ast.expr) -> Iterator[str]:
    """Yield the word of a literal or a member of `Reason`, or both of a condition."""
    match value:
        case ast.Constant(value=str(text)) if text.isidentifier():
            yield text
        case ast.Attribute(value=ast.Name(id="Reason"), attr=name):
            yield Reason[name]
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body)
            yield from texts(orelse)


def test_every_reason_in_the_source_is_in_the_table() -> None:
    """An operator finds words for whatever a record or a log line gives as its reason."""
    used = {text for path in FILES for text in reasons_in(ast.parse(path.read_text()))}

    assert used - NOT_OURS <= set(Reason)
    assert {"unknown_model", "garbled_answer", "queue_full", "address_cap", "draining"} <= used


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_in_the_table_is_used(reason: Reason) -> None:
    """No word is left of a reason that the gateway no longer gives."""
    spellings = (f'"{reason}"', f"Reason.{reason.name}")

    assert any(spelling in path.read_text() for path in FILES for spelling in spellings)


def test_a_reason_in_words() -> None:
    """A known reason has words, and so has a backend's status; another word has none."""
    assert words_of("rate") == "the key had as many requests in a minute as it may"
    assert words_of("status_503") == "the backend answered with status 503"
    assert words_of("status_5030") is None
    assert words_of("words") is None
