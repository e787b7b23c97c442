from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.body import MAX_DEPTH, model_of, parse, wants_stream
from ollama_gateway.wire.large import fields_of
from tests.wire.scanning import large, run


class _Pairs(list[tuple[str, object]]):
    """A JSON object as its pairs, duplicates included."""


def _go_model(body: bytes) -> str:
    """Read `model` as Ollama does, independently of the code under test: the last spelling wins."""
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    pairs, _rest = json.JSONDecoder(object_pairs_hook=_Pairs).raw_decode(text)
    assert isinstance(pairs, _Pairs)
    model = ""
    for key, value in pairs:
        if re.fullmatch("[mM][oO][dD][eE][lL]", key) and value is not None:
            assert isinstance(value, str)
            model = value
    return model


_KEYS = st.sampled_from(["model", "MODEL", "Model", "mode\u0142", "stream", "\u017ftream", "name"])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS | st.text(max_size=4), inner),
    max_leaves=8,
)


@st.composite
def _bodies(draw: st.DrawFn) -> bytes:
    """Generate near JSON: repeated keys, unusual values, bytes before and after."""
    pairs = draw(st.lists(st.tuples(_KEYS | st.text(max_size=4), _VALUES), max_size=5))
    ascii_only = draw(st.booleans())
    members = (
        json.dumps(key, ensure_ascii=ascii_only)
        + draw(st.sampled_from([":", " : ", "\n:"]))
        + json.dumps(value, ensure_ascii=ascii_only)
        for key, value in pairs
    )
    text = "{" + ",".join(members) + "}"
    before, after = draw(st.tuples(st.sampled_from([b"", b" \n"]), st.binary(max_size=2)))
    return before + text.encode("utf-8", "replace") + draw(st.sampled_from([b"", b"\n", after]))


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t "])
def test_empty_body(body: bytes) -> None:
    """An empty body is refused in Ollama's words."""
    with pytest.raises(BadRequest, match=r"\Amissing request body\Z"):
        parse(body)


@pytest.mark.parametrize("body", [b"null", b"[]", b'"x"', b"1", b"true", b'[{"model":"m"}]'])
def test_not_an_object(body: bytes) -> None:
    """A body that is not an object is a 400."""
    with pytest.raises(BadRequest, match=r"\Athe request body must be a JSON object\Z"):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m"',
        b"{'model':'m'}",
        b'{"model":"m",}',
        b'{"model":"m"}x',
        b'{"model":"a"}{"model":"b"}',
        b'{"model":"m"}\x00',
        b'{"model":"m"}\x0c',
        b'\x0b{"model":"m"}',
        b'{"model":"m\n"}',
        b'{"model":"\\x"}',
        b'\xef\xbb\xbf{"model":"m"}',
        b"NaN",
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":01}',
        b'{"a":1.}',
        b'{"a":' + b"9" * 5000 + b"}",
        b"{" * 5,
        b"model=m&stream=true",
    ],
)
def test_not_json(body: bytes) -> None:
    """A body that Go's or any strict decoder refuses is a 400; so are bytes after the object."""
    with pytest.raises(BadRequest, match=r"\Athe request body is not valid JSON\Z"):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"\xff"}',
        b'{"model":"\xc0\xaf"}',
        b'{"model":"\xed\xa0\x80"}',
        b'{"model":"caf\xe9"}',
        b"\x1f\x8b\x08\x00",  # gzip
        '{"model":"m"}'.encode("utf-16"),
        '{"model":"m"}'.encode("utf-32"),
    ],
)
def test_not_utf8(body: bytes) -> None:
    """A body in another encoding is refused, not guessed."""
    with pytest.raises(BadRequest, match=r"\Athe request body must be UTF-8\Z"):
        parse(body)


def test_utf16_is_not_guessed() -> None:
    """UTF-16 without a BOM, which json.loads would guess, is a 400 here."""
    with pytest.raises(BadRequest, match="not valid JSON"):
        parse('{"model":"m"}'.encode("utf-16-le"))


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" + b"0" * 400 + b".0"])
def test_infinite_number(number: bytes) -> None:
    """A number that Python would turn into infinity is refused."""
    with pytest.raises(BadRequest, match="out of range"):
        parse(b'{"a":[' + number + b"]}")


@pytest.mark.parametrize(
    "keys",
    [
        ("model", "model"),
        ("model", "MODEL"),
        ("Model", "mOdel"),
        ("model", "mod\\u0065l"),
        ("stream", "\u017ftream"),
        ("stream", "\\u017FTREAM"),
        ("keep_alive", "\u212aeep_alive"),
        ("keep_alive", "\\u212aeep_alive"),
        ("other", "Other"),
        ("", ""),
    ],
)
def test_duplicate_keys(keys: tuple[str, str]) -> None:
    """Two top-level keys that are equal to Go are refused in any order."""
    for first, second in (keys, keys[::-1]):
        with pytest.raises(BadRequest, match=r"\Athe request body has the same key twice\Z"):
            parse(f'{{"{first}":"a","x":{{"y":1}},"{second}":"b"}}'.encode())


def test_duplicates_below_the_top_level_pass() -> None:
    """Only the outermost object is checked, even when an inner one ends last."""
    assert parse(b'{"model":"m","options":{"a":1,"A":2,"a":3}}') == {
        "model": "m",
        "options": {"a": 3, "A": 2},
    }


def test_deepest_body() -> None:
    """`MAX_DEPTH` levels of arrays or objects are accepted, and one more is refused."""
    inner = MAX_DEPTH - 1
    assert parse(b'{"a":' + b"[" * inner + b"]" * inner + b"}").keys() == {"a"}
    assert parse(b'{"a":' * inner + b"{}" + b"}" * inner).keys() == {"a"}
    for body in (
        b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
        b'{"a":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH,
    ):
        with pytest.raises(BadRequest, match="nested too deeply"):
            parse(body)


@pytest.mark.parametrize("bracket", [b"[", b'{"a":'])
def test_bottomless_body(bracket: bytes) -> None:
    """A body of opening brackets does not exhaust the stack."""
    with pytest.raises(BadRequest):
        parse(b'{"a":' + bracket * 200_000)
    with pytest.raises(BadRequest, match="nested too deeply"):
        parse(b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_unusual_but_valid_bodies() -> None:
    """NUL, lone surrogates, and whitespace around the object are accepted."""
    assert parse(b' {"model":"a\\u0000"}\r\n') == {"model": "a\x00"}
    assert parse(b'{"model":"\\ud800"}') == {"model": "\ud800"}
    assert parse(b'{"n":' + b"9" * 4000 + b"}") == {"n": int("9" * 4000)}
    assert parse(b"{}") == {}


def test_many_messages() -> None:
    """A body of 1 MiB with 10,000 messages is read completely."""
    message = {"role": "user", "content": "x" * 72}
    body = json.dumps({"model": "m", "messages": [message] * 10_000}).encode()
    assert len(body) > 1 << 20
    assert parse(body) == {"model": "m", "messages": [message] * 10_000}


def test_refusals_quote_nothing() -> None:
    """Neither a refusal nor its cause quotes the body."""
    for body in (b'{"secret"', b'{"secret":1,"SECRET":2}', b'{"secret":NaN}', b'"secret"'):
        with pytest.raises(BadRequest) as refusal:
            parse(body)
        assert "secret" not in f"{refusal.value!r} {refusal.value}".lower()
        assert refusal.value.__suppress_context__ or refusal.value.__context__ is None
        assert refusal.value.reason == "invalid_body"


@pytest.mark.parametrize(
    ("document", "model", "legacy"),
    [
        ({}, "", ""),
        ({"model": "m"}, "m", "m"),
        ({"MODEL": "m"}, "m", "m"),
        ({"model": None}, "", ""),
        ({"name": "n"}, "", "n"),
        ({"model": "", "Name": "n"}, "", "n"),
        ({"model": None, "name": "n"}, "", "n"),
        ({"model": " ", "name": "n"}, " ", " "),
        ({"model": "m", "name": "n"}, "m", "m"),
        ({"model": "m", "name": None}, "m", "m"),
    ],
)
def test_model_of(document: dict[str, object], model: str, legacy: str) -> None:
    """`name` counts only on routes that know it, and only when `model` is empty."""
    assert model_of(document) == model
    assert model_of(document, legacy=True) == legacy


@pytest.mark.parametrize("value", [5, 1.5, True, [], ["m"], {}, {"model": "m"}])
def test_model_is_a_string(value: object) -> None:
    """A model of any other type is a 400, as in Ollama, even in the legacy field."""
    with pytest.raises(BadRequest, match=r"\Amodel must be a string\Z"):
        model_of({"model": value})
    with pytest.raises(BadRequest, match=r"\Aname must be a string\Z"):
        model_of({"model": "m", "name": value}, legacy=True)
    assert model_of({"model": "m", "name": value}) == "m"


@pytest.mark.parametrize("default", [True, False])
def test_stream(*, default: bool) -> None:
    """Absent and null give the route's default; a boolean is taken as it is."""
    assert wants_stream({}, default=default) is default
    assert wants_stream({"stream": None}, default=default) is default
    assert wants_stream({"stream": True}, default=default) is True
    assert wants_stream({"Stream": False}, default=default) is False


@pytest.mark.parametrize("value", ["true", "false", "", 1, 0, 1.0, [], {}])
def test_stream_is_a_boolean(value: object) -> None:
    """A value that only resembles a boolean is a 400."""
    with pytest.raises(BadRequest, match=r"\Astream must be a boolean\Z"):
        wants_stream({"stream": value}, default=True)


@given(st.binary() | st.text().map(str.encode) | _bodies())
@example(b'{"a":' + b"1" * 10_000 + b"}")
@example(b"\xff\xfe{\x00}\x00")
def test_parse_raises_only_bad_request(body: bytes) -> None:
    """Any bytes give an object or a 400 of one short line."""
    refusal = ""
    try:
        parse(body)
    except BadRequest as error:
        refusal = error.message
    assert "\n" not in refusal
    assert len(refusal) < 80


@given(_bodies())
@example(b'{"model":null,"name":"b"}')
def test_the_model_authorised_is_the_model_served(body: bytes) -> None:
    """Whenever the gateway reads a model, a reader that works like Ollama's reads the same."""
    try:
        model = model_of(parse(body))
    except BadRequest:
        return
    assert model == _go_model(body)
    assert model == model_of(run(fields_of(large(body, long=80))))
