"""JSON as Go handles it: its syntax errors, its tolerance, its encoding."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.simulator.gojson import decode, dumps, loads
from ollama_gateway.simulator.gostructs import MAP
from ollama_gateway.simulator.gotypes import BadBody, Shape

FIELDS = {"model": "string", "n": "int", "stream": "bool", "list": "[]api.X", "options": MAP}
SHAPE = Shape("api", "R", FIELDS)
WRONG = "json: cannot unmarshal"
BEGIN = "looking for beginning of value"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "EOF"),
        (b" \n", "EOF"),
        (b"{", "unexpected EOF"),
        (b'{"a":1', "unexpected EOF"),
        (b'"abc', "unexpected EOF"),
        (b"-", "unexpected EOF"),
        (b"{bad", "invalid character 'b' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b"[1,]", f"invalid character ']' {BEGIN}"),
        (b"nope", "invalid character 'o' in literal null (expecting 'u')"),
        (b"NaN", f"invalid character 'N' {BEGIN}"),
        (b"-x", "invalid character 'x' in numeric literal"),
        (b"[1.x]", "invalid character 'x' after decimal point in numeric literal"),
        (b"[1ex]", "invalid character 'x' in exponent of numeric literal"),
        (b'"\n"', r"invalid character '\n' in string literal"),
        (b'"\\x"', "invalid character 'x' in string escape code"),
        (b'"\\u12g4"', r"invalid character 'g' in \u hexadecimal character escape"),
        (b"'a'", rf"invalid character '\'' {BEGIN}"),
        (b"\xff", f"invalid character 'ÿ' {BEGIN}"),
        (b"\x80", rf"invalid character '\u0080' {BEGIN}"),
        (b"[" * 100_000, "exceeded max depth"),
    ],
)
def test_a_syntax_error_has_the_words_of_go(body: bytes, message: str) -> None:
    """The error names the first wrong byte and the syntax expected there."""
    with pytest.raises(BadBody) as caught:
        loads(body)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"null", {}),
        (b'{"model":"a"} trailing', {"model": "a"}),
        (b'{"OPTIONS":{"N":1,"n":2,"n":3}}', {"options": {"N": 1, "n": 3}}),
        (b'{"options":{"N":1},"options":null}', {"options": {}}),
        (b'{"MODEL":"a","model":"b"}', {"model": "b"}),
        (b'{"model":"a","model":null}', {"model": "a"}),
        (b'{"model":null}', {}),
        (b'{"n":3}', {"n": 3}),
        ('{"\u212a":1}'.encode(), {"k": 1}),
        (b'{"model":"\xff"}', {"model": "\ufffd"}),
    ],
)
def test_what_go_lets_pass(body: bytes, fields: dict[str, object]) -> None:
    """Keys fold, the last one wins, a null changes nothing, later bytes are ignored."""
    assert decode(body, SHAPE) == fields


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'"x"', f"{WRONG} string into Go value of type api.R"),
        (b'{"n":1.5}', f"{WRONG} number 1.5 into Go struct field R.n of type int"),
        (
            b'{"stream":1}',
            f"{WRONG} number into Go struct field R.stream of type bool",
        ),
        (
            b'{"list":{}}',
            f"{WRONG} object into Go struct field R.list of type []api.X",
        ),
    ],
)
def test_a_wrong_type_has_the_words_of_go(body: bytes, message: str) -> None:
    """The error names the field, its struct and its type."""
    with pytest.raises(BadBody) as caught:
        decode(body, SHAPE)

    assert str(caught.value) == message


def test_writing_escapes_as_go_does() -> None:
    """Angle brackets, ampersands and line separators are escaped, and nothing else."""
    assert dumps({"a": "<&>\u2028é"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028é"}'.encode()


@given(st.binary(max_size=40) | st.text(alphabet='{}[]",:0123456789.eE+-tfn\\u ', max_size=40))
def test_reading_ends_in_a_value_or_in_a_refusal(body: bytes | str) -> None:
    """No bytes raise another exception than the one that becomes a 400."""
    with contextlib.suppress(BadBody):
        loads(body if isinstance(body, bytes) else body.encode())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet="abc"), inner),
        max_leaves=10,
    )
)
def test_what_is_json_is_never_refused(value: object) -> None:
    """Everything that Python's encoder writes can be read."""
    loads(json.dumps(value).encode())
