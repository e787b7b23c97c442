"""What is read of a slim body is what the whole one says, and what leaves is whole again."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.body import model_of, parse
from ollama_gateway.wire.bounds import measure, measure_inputs, with_generation
from ollama_gateway.wire.dialects.openai import with_usage
from ollama_gateway.wire.slimming import LONG, slimmed

RUN: Final = "iVBORw0KGgo/+" * (LONG // 12)
SIZE: Final = len(RUN)
URL: Final = f"data:image/png;base64,{RUN}="
BOUNDS: Final = (("max_tokens",),)


def encoded(document: object) -> bytes:
    """A body as most clients write it."""
    return json.dumps(document, ensure_ascii=False).encode()


def restored(value: Any, length: Any) -> Any:
    """A value of a body, its texts replaced by their lengths, its objects by their members."""
    if isinstance(value, dict):
        return [(length(key), restored(item, length)) for key, item in value.items()]
    if isinstance(value, list):
        return [restored(item, length) for item in value]
    return length(value) if isinstance(value, str) else value


PICTURES: Final = [
    {"model": "m", "messages": [{"role": "user", "content": "hi 😀", "images": [RUN, "x", RUN]}]},
    {"model": "m", "messages": [{"content": [{"type": "image_url", "image_url": {"url": URL}}]}]},
    {"model": "m", "prompt": RUN, "images": [RUN]},
    {"model": "m", "prompt": f'"{RUN}" said {RUN}, "{RUN}"', "suffix": f"a,{RUN}"},
    {RUN: RUN, "model": "m"},
]


@pytest.mark.parametrize("document", PICTURES)
@pytest.mark.parametrize("escapes", [False, True])
def test_a_slim_body_says_the_same(document: Any, *, escapes: bool) -> None:
    """Structure, words and the length of every text are those of the whole body."""
    body = json.dumps(document, ensure_ascii=escapes).encode()
    slim = slimmed(body)

    assert len(slim.body) < len(body) - LONG
    seen, whole = json.loads(slim.body), json.loads(body)
    assert restored(seen, slim.length) == restored(whole, len)
    assert slim.whole(slim.body) == body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'"',
        b"x" * 2 * LONG,
        b'{"model":"m","prompt":"hi"}',
        encoded({"prompt": "lorem ipsum " * LONG}),
        encoded({"prompt": "A" * (LONG - 1)}),
        encoded({"prompt": "A" * 2 * LONG + "."}),
        encoded([str(n) for n in range(LONG)]),
        b'{"a":' + b"1" * 2 * LONG + b',"b":"c"}',
    ],
)
def test_nothing_else_is_left_out(body: bytes) -> None:
    """Words, numbers and short runs are read as they are."""
    slim = slimmed(body)

    assert slim.body is body
    assert slim.whole(body) is body


@pytest.mark.parametrize(
    "shape",
    [
        b'{"model":"m","a":%b"}',
        b'{"model":"m","a":[1,%b"]}',
        b'{"model":"m","a":"x"%b"y"}',
        b'{"model":"m",%b":1}',
        b'"%b"',
        b'{"model":"m","a":"%b',
        b'{"model":"m"} "%b"',
        b'{"model":"m","a":"%b\x01"}',
    ],
)
@pytest.mark.parametrize("run", [RUN.encode(), b"1" * 2 * LONG])
def test_what_is_no_json_does_not_become_any(shape: bytes, run: bytes) -> None:
    """Wherever a run stands, a body that is refused as it is is refused slim too."""
    body = shape % run

    with pytest.raises(BadRequest):
        parse(body)
    with pytest.raises(BadRequest):
        parse(slimmed(body).body)


TEXTS: Final = st.sampled_from(
    ["a", "é😀", 'q"q', "AAAAAAA", "x,AAAAAAAA", '"AAAAAAA"', "\\AAAAAAA", "AAAAAAA\\", "1111111"]
)
VALUES: Final = st.recursive(
    st.one_of(TEXTS, st.none(), st.integers(), st.booleans()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
DAMAGE: Final = st.tuples(
    st.integers(0, 60), st.sampled_from([b'"', b"\\", b",", b"AAAAAA", b"}", b"\x01"])
)


@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4), st.lists(DAMAGE, max_size=2))
@settings(max_examples=400, deadline=None)
def test_whatever_is_sent_is_read_the_same(document: Any, damage: list[tuple[int, bytes]]) -> None:
    """A damaged body is refused whole and slim; what one of the two accepts, both read alike."""
    body = encoded(document)
    for place, added in damage:
        body = body[:place] + added + body[place:]
    slim = slimmed(body, long=6)

    assert slim.whole(slim.body) == body
    try:
        whole = parse(body)
    except BadRequest as refused:
        if "twice" not in refused.message:
            with pytest.raises(BadRequest):
                parse(slim.body)
        return
    seen = parse(slim.body)
    assert restored(seen, slim.length) == restored(whole, len)


def test_a_run_is_no_models_name() -> None:
    """A name so long is refused for what it is, and no mark gets into a row."""
    slim = slimmed(encoded({"model": RUN, "prompt": "hi"}))

    assert set(model_of(parse(slim.body))) & set("~ ")


@pytest.mark.parametrize(
    "document",
    [
        *PICTURES,
        {
            "messages": [{"content": RUN}],
            "tools": [{"type": "namespace", "name": RUN, "tools": [{}]}],
        },
        {"messages": [{"content": [{"type": "image", "source": {"data": RUN}}]}], "max_tokens": 5},
    ],
)
def test_a_slim_body_measures_as_much(document: Any) -> None:
    """A budget is charged the same: for pictures nothing by their bytes, for long texts all."""
    body = encoded(document)
    slim = slimmed(body)
    read = parse(slim.body)

    assert measure(read, len(body), BOUNDS, 1, slim.length) == measure(
        parse(body), len(body), BOUNDS
    )


def test_long_inputs_are_measured_whole() -> None:
    """What is to be embedded is text, also where it looks like a picture."""
    body = encoded({"model": "m", "input": [RUN, "é", f"x,{RUN}"]})
    slim = slimmed(body)

    measured = measure_inputs(parse(slim.body), len(body), "input", slim.length)
    assert measured.inputs == (SIZE, 2, SIZE + 2)


@pytest.mark.parametrize("document", PICTURES)
def test_what_is_changed_keeps_its_pictures(document: Any) -> None:
    """Fields are written into a large body as into any, and all its other bytes stay."""
    bounded = json.loads(with_generation(encoded(document), ("max_tokens",), 7))
    asked = json.loads(with_usage(encoded(document)))

    assert bounded == {**document, "max_tokens": 7}
    assert asked == {**document, "stream_options": {"include_usage": True}}


def test_a_run_in_the_field_that_is_written_is_gone() -> None:
    """A bound that is no number is replaced, however long it is."""
    body = encoded({"max_tokens": RUN, "prompt": RUN})

    assert json.loads(with_generation(body, ("max_tokens",), 7)) == {"max_tokens": 7, "prompt": RUN}


def test_nobody_can_write_a_mark() -> None:
    """Each body has a mark of its own, so that no text can claim to be longer than it is."""
    body = encoded({"prompt": RUN})

    assert slimmed(body).body != slimmed(body).body
