"""A large body read by its fields and parts says the same as when it is read whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.body import LongText, model_of, parse, utf8_size
from ollama_gateway.wire.bounds import with_generation
from ollama_gateway.wire.dialects.openai import OpenAIDialect
from ollama_gateway.wire.large import (
    IN_PLACE,
    SCAN_STEP,
    BodyReader,
    Large,
    fields_of,
    request_limits,
)
from ollama_gateway.wire.parts import parts, whole
from ollama_gateway.wire.structure import LONG_STRING, Cutting
from tests.wire.scanning import PICTURES, RUN, Pairs, documents, encoded, large, read, run, sent


def shape(value: Any) -> Any:
    """Replace the texts in a value by their sizes."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return utf8_size(value) if isinstance(value, str) else value


@settings(max_examples=500, deadline=None)
@given(documents(), st.sampled_from([1, 5, 17]), st.sampled_from([1, 30]))
def test_any_body_is_read_alike(body: bytes, step: int, chunk: int) -> None:
    """Read whole or in steps of any size, the same bodies are refused and the rest say the same."""
    try:
        whole = parse(body)
    except BadRequest:
        with pytest.raises(BadRequest):
            run(fields_of(large(body, step=step, chunk=chunk)))
        event("refused")
        return
    found = large(body, step=step, chunk=chunk)

    fields = run(fields_of(found))
    assert list(fields) == list(whole)
    assert {k: shape(v) for k, v in fields.items() if not isinstance(v, list | dict)} == {
        k: shape(v) for k, v in whole.items() if not isinstance(v, list | dict)
    }
    assert sent(found) == body
    event(f"{len(list(parts(found)))} parts")


@settings(max_examples=500, deadline=None)
@given(documents(), st.sampled_from([1, 5, 17]))
def test_the_parts_hold_all_that_there_is(body: bytes, step: int) -> None:
    """Each part is JSON, and the scalars of all parts in order are those of the body."""
    try:
        found = large(body, step=step)
    except BadRequest:
        return
    values = [value for part in parts(found) for value in flattened(part.value(valued))]

    assert values == flattened(json.loads(body, object_pairs_hook=valued))


def valued(pairs: list[tuple[str, Any]]) -> list[Any]:
    """Return an object's values; a part repeats the keys in its opening."""
    return [value for _, value in pairs]


def flattened(value: Any) -> list[Any]:
    """Return the scalars in order, texts as their sizes."""
    if isinstance(value, list):
        return [inner for item in value for inner in flattened(item)]
    return [shape(value)]


@settings(max_examples=300, deadline=None)
@given(documents(), st.sampled_from([1, 5, 17]))
def test_what_a_value_stands_under_is_kept(body: bytes, step: int) -> None:
    """The keys on the path to a part are the body's own, in order."""
    try:
        found = large(body, step=step)
    except BadRequest:
        return
    paths = [[], *ways(read(body))]
    for part in parts(found):
        keys = [None if key == "~" else key for key in part.keys]
        assert any(like(keys, path[: len(keys)]) for path in paths), (part.keys, part.text)


def ways(value: Any) -> Any:
    """Yield the keys on the path to every value."""
    items = value if isinstance(value, Pairs) else [(None, item) for item in value]
    for key, inner in items:
        step = [] if key is None else [key]
        yield step
        if isinstance(inner, list):
            yield from (step + rest for rest in ways(inner))


def like(keys: list[str | None], path: list[str]) -> bool:
    """Return whether two paths are equal, apart from keys that are too long."""
    return len(keys) == len(path) and all(
        one in {None, two} for one, two in zip(keys, path, strict=True)
    )


@pytest.mark.parametrize("document", PICTURES)
@pytest.mark.parametrize(
    "more", [{}, {"options": {"a": 1}}, {"options": None}, {"MAX_TOKENS": "x"}]
)
def test_what_is_written_into_it(document: dict[str, Any], more: dict[str, Any]) -> None:
    """Fields are written as into a small body, and all other bytes stay."""
    body = encoded({**document, **more})
    for field in (("max_tokens",), ("options", "num_predict")):
        found = with_generation(large(body), field, 7)
        with_usage = OpenAIDialect().with_usage
        assert sent(with_usage(found)) == with_usage(with_generation(body, field, 7))
        assert len(found) == len(sent(found))
        again = with_generation(with_generation(large(body), field, 9), field, 7)
        assert field[0] not in {**document, **more} or sent(again) == sent(found)
    assert sent(with_generation(large(b" {\n} "), ("max_tokens",), 7)) == b' {\n"max_tokens":7} '


@pytest.mark.parametrize("value", ["5", '"x"', "[1]"])
def test_options_that_are_none_are_refused(value: str) -> None:
    """Options that are no object are refused, as in a small body, because they would be lost."""
    body = f'{{"options":{value}}}'.encode()
    for one in (body, large(body)):
        with pytest.raises(BadRequest, match="options must be an object"):
            with_generation(one, ("options", "num_predict"), 7)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b" " * 400_000, "missing request body"),
        (b"[" + b"1," * 200_000 + b"1]", "must be a JSON object"),
        (b'{"a":"' + b"x" * 400_000 + b'"}}', "is not valid JSON"),
        (b'{"a":"' + b"x" * 400_000 + b"\xff" + b'"}', "must be UTF-8"),
        (b'{"a":1,"b":"' + b"x" * 400_000 + b'","A":1}', "has the same key twice"),
        (b'{"a":[' + b"{}," * 100_000 + b"1]}", "more than 100000 objects and arrays"),
        (b"{" + b",".join(b'"%d":1' % n for n in range(50_000)) + b"}", "more than 1000 fields"),
        (b'{"options":{"a":"' + b"x" * 400_000 + b'"}}', "options must have at most 64 KiB"),
        (b'{"a":' + b"[" * 300_000 + b"]" * 300_000 + b"}", "is nested too deeply"),
    ],
)
def test_a_large_body_that_is_refused(body: bytes, words: str) -> None:
    """A refusal is one line that names the fault, whatever the size."""
    reader = BodyReader(request_limits(100_000))
    reader.add(body)
    with pytest.raises(BadRequest, match=words) as refusal:
        run(fields_of(run(reader.end())))
    assert "\n" not in refusal.value.message


def test_a_long_name_is_no_models_name() -> None:
    """A model name that was left out as a long text is refused, and no record holds it."""
    body = large(encoded({"model": RUN, "prompt": "hi"}))
    with pytest.raises(BadRequest, match="model is too long"):
        model_of(run(fields_of(body)))


@pytest.mark.parametrize(
    "unit",
    [b"[0],", b'{"":0},', b'"a",', b"1,", b"1.1,", b'"\\u0041",', b"[[[1]]],", b" 1,", b'"', b" "],
)
def test_no_step_takes_more_than_a_part(unit: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """For 2 MB no step gives the scanner more than a few KiB, or Python's json over 256 KiB."""
    count = min(2_000_000 // len(unit), 90_000 if unit[0] in b"[{" else 10**9) // 3
    body = b'{"model":"m","messages":[' + (
        unit * count if unit != b'"' else b'"' + b"x" * 2_000_000
    )
    body += b'"]}' if unit == b'"' else b"0]}"
    reader = BodyReader(request_limits(100_000))
    reader.add(body)
    found = run(reader.end())

    assert isinstance(found, Large)
    assert max(len(part.text) for part in parts(found)) <= IN_PLACE
    assert SCAN_STEP + LONG_STRING <= IN_PLACE
    held = list(run_sizes(found))
    assert max(held) <= 32 * 1024


def run_sizes(found: Large) -> Any:
    """Return the sizes of the chunks that are sent."""
    return (len(chunk) for chunk in found.chunks(32 * 1024))


def test_a_long_text_says_how_long_it_is() -> None:
    """A long text has its sizes in UTF-8 and as JSON, and none of its content."""
    text = 'a"\n\u00e9\U0001f600' * 20
    for escapes in (False, True):
        body = json.dumps({"x": [text]}, ensure_ascii=escapes).encode()
        for step in (1, 2, 3, 5, 11):
            (part,) = parts(large(body, step=step, cutting=Cutting()))
            (found,) = part.texts
            assert isinstance(part.value()["x"][0], LongText)
            assert found.size == len(text.encode())
            assert found.printed == len(json.dumps(text, ensure_ascii=False).encode()) - 2


@pytest.mark.parametrize("step", [1, 7, 100])
def test_a_long_listing_is_made_by_parts(step: int) -> None:
    """A listing of thousands of entries is read like a short one, and no text is left out."""
    entries = [
        {"name": f"m{n}", "details": {"families": ["a", "b"]}, "x": "y" * 50} for n in range(99)
    ]
    document = {"models": entries, "version": "0.1", "more": {"a": [1]}}
    body = json.dumps(document).encode()

    assert run(whole(large(body, step=step, long=1000, cutting=Cutting(40, 300)))) == document
    assert run(whole(body)) == document
    with pytest.raises(BadRequest):
        run(whole(b'{"size":NaN}'))
