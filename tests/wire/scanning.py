"""Documents for the scanner, valid and broken, and a strict reading of the whole document."""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn, TypeVar

from hypothesis import strategies as st

from ollama_gateway.wire import bounds
from ollama_gateway.wire.body import MAX_DEPTH
from ollama_gateway.wire.findings import Findings
from ollama_gateway.wire.large import BodyReader, Large, RequestBody, Steps, request_limits
from ollama_gateway.wire.scanner import Scanner
from ollama_gateway.wire.splicing import Field
from ollama_gateway.wire.structure import Cutting

T = TypeVar("T")

TINY: Final = Cutting(shallow=12, deep=30)
"""Cuts at every possible place."""


class Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, duplicates included."""


def read(document: bytes) -> Pairs:
    """Read the outermost object strictly with Python's json; raises ValueError."""
    found = json.loads(
        document.decode(), object_pairs_hook=Pairs, parse_float=_finite, parse_constant=_refused
    )
    if not isinstance(found, Pairs) or depth(found) > MAX_DEPTH:
        raise ValueError
    return found


def depth(value: object) -> int:
    """Return the nesting depth of containers."""
    if isinstance(value, Pairs):
        return 1 + max((depth(inner) for _, inner in value), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


def counts(value: object) -> tuple[int, int]:
    """Count the containers and the values."""
    inner = [found for _, found in value] if isinstance(value, Pairs) else value
    if not isinstance(inner, list):
        return 0, 1
    below = list(map(counts, inner))
    return 1 + sum(one for one, _ in below), 1 + sum(all_ for _, all_ in below)


def scanned(chunks: list[bytes], found: Findings, *, checks_text: bool = True) -> Scanner:
    """Scan all chunks; raises Unreadable."""
    scanner = Scanner(found, checks_text=checks_text)
    for chunk in chunks:
        scanner.feed(chunk)
    scanner.finish()
    return scanner


def run(steps: Steps[T]) -> T:
    """Run work in steps to its end and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def large(
    body: bytes, *, step: int = 5, long: int = 24, cutting: Cutting = TINY, chunk: int = 1000
) -> Large:
    """Read the body as a large one; raises BadRequest."""
    reader = BodyReader(request_limits(100_000), cutting, -1, step, long)
    for start in range(0, len(body), chunk):
        reader.add(body[start : start + chunk])
        run(reader.work())
    found: RequestBody = run(reader.end())
    assert isinstance(found, Large)
    return found


def sent(body: RequestBody) -> bytes:
    """Return the bytes that a backend gets."""
    return b"".join(body.chunks(7)) if isinstance(body, Large) else body


def with_generation(body: RequestBody, field: Field, tokens: int) -> bytes:
    """Return the bytes that a backend gets of a body with a bound."""
    return sent(bounds.with_generation(body, field, tokens))


def _finite(literal: str) -> float:
    if math.isinf(number := float(literal)):
        raise ValueError
    return number


def _refused(_literal: str) -> NoReturn:
    raise ValueError


_NUMBERS = st.sampled_from(
    [
        *("0", "-0", "7", "-12345678901234567890", "1.5", "0.0", "-1e3", "1E+05", "1e-999"),
        "1e99",
        *("1e308", "123456789e299", "1e0001", "1e999", "-1e400", "01", "1.", ".5", "+1", "-"),
        "1e",
        *(
            "0x1",
            "NaN",
            "Infinity",
            "-Infinity",
            "9" * 201,
            "9" * 4300,
            "9" * 4301,
            "9" * 400 + "e5",
        ),
    ]
)
_TEXTS = st.one_of(
    st.builds(json.dumps, st.text(max_size=6), ensure_ascii=st.booleans()),
    st.sampled_from(
        [
            *('"a,b]}"', '"\\""', '"\\\\"', '"\\u00e9\\ud83d\\ude00"', '"\\ud800"', '"[{"', '""'),
            *('"\\x"', '"\\u12"', '"\n"', "'a'", '"' + "x" * 40 + '"', '"' + "\\n" * 20 + '"'),
            '"' + "\U0001f600" * 12 + '"',
        ]
    ),
)
_KEYS = st.sampled_from(['"a"', '"b"', '"type"', '"\\u0061"', '"' + "k" * 30 + '"']) | _TEXTS
_WORDS = st.sampled_from(["true", "false", "null"] * 4 + ["True", "nul", "tru e"])
_SPACES = st.sampled_from([""] * 6 + [" ", "\n\t", " " * 25, "\x0b"])
_COMMAS = st.sampled_from([","] * 12 + ["", ",,", ";"])


@st.composite
def _array(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    return f"[{_joined(draw, draw(st.lists(inner, max_size=5)))}]"


@st.composite
def _object(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    members = draw(st.lists(st.tuples(_KEYS, inner), max_size=5))
    texts = [f"{key}{draw(_SPACES)}:{draw(_SPACES)}{value}" for key, value in members]
    return f"{{{_joined(draw, texts)}}}"


def _joined(draw: st.DrawFn, items: list[str]) -> str:
    text = draw(_SPACES)
    for place, item in enumerate(items):
        text += (draw(_COMMAS) if place else "") + draw(_SPACES) + item + draw(_SPACES)
    return text


VALUES = st.recursive(
    _NUMBERS | _TEXTS | _WORDS, lambda inner: _array(inner) | _object(inner), max_leaves=12
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Generate near JSON objects: unusual numbers, broken strings, whitespace, trailing bytes."""
    text = draw(_object(VALUES)).encode("utf-8", "surrogatepass")
    before = draw(st.sampled_from([b""] * 8 + [b" \n", b"\xef\xbb\xbf", b"x"]))
    after = draw(st.sampled_from([b""] * 8 + [b"\n", b"}", b"{}", b"\xff"]))
    cut = draw(st.sampled_from([0] * 9 + [1, 2, 5]))
    whole = before + text + after
    return whole[: len(whole) - cut]


@st.composite
def chunks_of(draw: st.DrawFn, document: bytes) -> list[bytes]:
    """Divide the document into chunks of any size."""
    size = draw(st.sampled_from([1, 2, 3, 5, 8, 13, 40, 10_000]))
    return [document[start : start + size] for start in range(0, len(document), size)]


RUN: Final = "iVBORw0KGgo/+" * 8
URL: Final = f"data:image/png;base64,{RUN}="

PICTURES: Final = [
    {"model": "m", "messages": [{"role": "user", "content": "hi 😀", "images": [RUN, "x"]}]},
    {"model": "m", "messages": [{"content": [{"type": "image_url", "image_url": {"url": URL}}]}]},
    {"model": "m", "prompt": RUN, "images": [RUN]},
    {"model": "m", "prompt": f'"{RUN}" said {RUN}, "{RUN}"', "suffix": f"a,{RUN}\n"},
    {"messages": [{"content": RUN}], "tools": [{"type": "function", "name": RUN}]},
    {"messages": [{"content": [{"type": "image", "source": {"data": RUN}}]}], "max_tokens": 5},
    {"messages": [{"content": "a"}, {"content": "b"}], "system": "s", "template": RUN},
    {"model": "m", "x": {RUN: RUN}, "input": [{"type": "input_image", "image_url": URL}]},
]


def encoded(document: object) -> bytes:
    """Encode a body as most clients do."""
    return json.dumps(document, ensure_ascii=False).encode()
