from __future__ import annotations

import json
import re
from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest
from ollama_gateway.simulator import gojson
from ollama_gateway.wire.body import parse
from ollama_gateway.wire.bounds import Measure, measure_document, measured_inputs
from ollama_gateway.wire.splicing import Field
from tests.wire.scanning import run, with_generation

OPENAI: tuple[Field, ...] = (("max_tokens",), ("max_completion_tokens",))
PNG = "iVBORw0KGgo="


def _ollama_reads(body: bytes, field: Field) -> object:
    """Read the field as Ollama does, apart from the code under test: the last member wins."""
    value = json.loads(body, object_pairs_hook=list)
    flags = re.IGNORECASE  # folds these keys as Go does: U+017F is an s, U+212A a k
    for name in field:
        value = [item for key, item in value if re.fullmatch(name, key, flags)][-1]
        flags = re.NOFLAG
    return value


def _measured(body: str, fields: tuple[Field, ...] = ()) -> Measure:
    raw = body.encode()
    return measure_document(parse(raw), len(raw), fields)


_SPELLINGS = ["max_tokens", "MAX_Tokens", "\\u006dax_tokens", "max_to\u212aen\u017f"]
_VALUES = ["100", "1e2", "null", "-1", '"9,}\\""', '{"max_tokens":[1]}', '[{"num_predict":1}]']


@pytest.mark.parametrize("value", _VALUES)
@pytest.mark.parametrize("key", _SPELLINGS)
def test_a_field_of_the_body_is_replaced(key: str, value: str) -> None:
    """One value changes, under the client's own spelling."""
    before = f' {{"\u00e9":"\\ud800","{key}" \t:\n {value} ,"b":-0.10E+2}}\r\n'
    parse(before.encode())
    body = with_generation(before.encode(), ("max_tokens",), 7)
    assert body.decode() == before.replace(f"\n {value} ,", "\n 7 ,")
    assert gojson.loads(body)["max_tokens"] == 7


_BESIDE = [  # keys that only resemble the field, or are nested
    *('"model":"m"', '"model":"\U0001f600"\n', '"max_tokens ":9', '"max_tokens\u0131":9'),
    *('"a":"\\"max_tokens\\":9"', '"\\"max_tokens":9', '"a":[{"max_tokens":9},"max_tokens"]'),
]


@pytest.mark.parametrize("members", _BESIDE)
def test_a_field_of_the_body_is_added(members: str) -> None:
    """All other members stay, and the new one comes last."""
    parse(f"{{{members}}}".encode())
    body = with_generation(f"{{{members}}}".encode(), ("max_tokens",), 7)
    assert body.decode() == f'{{{members},"max_tokens":7}}'
    assert gojson.loads(body)["max_tokens"] == 7


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *((nothing, '{"num_predict":7}') for nothing in ("{}", "null")),
        ("{ \n}", '{ \n"num_predict":7}'),
        *((f'{{"num_predict":{value}}}', '{"num_predict":7}') for value in _VALUES),
        ('{"num\\u005fpredict" : 9 }', '{"num\\u005fpredict" : 7 }'),
        ('{"num_predict":1,"num_predict":[3]}', '{"num_predict":7,"num_predict":7}'),
        ('{"num_predict":1,"Num_Predict":2}', '{"num_predict":7,"Num_Predict":2}'),
        ('{"NUM_PREDICT":2\t}', '{"NUM_PREDICT":2\t,"num_predict":7}'),
        ('{"a":{"num_predict":1}}', '{"a":{"num_predict":1},"num_predict":7}'),
    ],
)
@pytest.mark.parametrize("key", ["options", "OPTIONS", "Option\u017f", "\\u006fptions"])
def test_an_option_is_set(key: str, before: str, after: str) -> None:
    """Keys of `options` count as written, and all equal ones are set; null becomes an object."""
    body = f'{{"{key}" : {before},"num_predict":2}}'.encode()
    parse(body)
    body = with_generation(body, ("options", "num_predict"), 7)
    assert body.decode() == f'{{"{key}" : {after},"num_predict":2}}'
    assert _ollama_reads(body, ("options", "num_predict")) == 7


def test_what_is_missing_is_added() -> None:
    """An empty object gets its first member, and a body without options gets them."""
    option = ("options", "num_predict")
    assert with_generation(b" { \n} ", ("max_tokens",), 7) == b' { \n"max_tokens":7} '
    assert with_generation(b"{}", option, 7) == b'{"options":{"num_predict":7}}'
    assert with_generation(b'{"a":1}', option, 7) == b'{"a":1,"options":{"num_predict":7}}'


@pytest.mark.parametrize("value", ["[]", '["num_predict"]', "false", "1", '"null"', '"{}"'])
@pytest.mark.parametrize("name", ["options", "OPTIONS"])
def test_options_must_be_an_object(name: str, value: str) -> None:
    """If a bound can be neither found nor added, the request is a 400 that quotes nothing."""
    with pytest.raises(BadRequest, match=r"\Aoptions must be an object\Z") as refusal:
        with_generation(f'{{"{name}":{value}}}'.encode(), ("options", "num_predict"), 7)
    assert refusal.value.reason == "invalid_body"


class _Member(NamedTuple):
    """One member of an object, in JSON, and whether the test sets it."""

    key: str
    is_target: bool
    value: str


_NAMES = ("model", "max_token", "Num_Predict", 'x"max_tokens', "\u00e9", "", "num_ctx")
_ODD = ('"\\ud800"', "1.0E+2", "-0", '{"num_predict":1,"num_predict" : 2}', '"\\"max_tokens\\":1"')
_PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
_JSON = st.sampled_from(_ODD) | st.builds(
    json.dumps, _PLAIN | st.text(max_size=8), ensure_ascii=st.booleans()
)
_SPACES = st.text(" \t\r\n", max_size=3)
_OTHERS = st.builds(_Member, st.sampled_from(_NAMES).map(json.dumps), st.just(value=False), _JSON)


def _target(*keys: str) -> st.SearchStrategy[_Member]:
    texts = [f'"{key}"' for key in keys]
    return st.builds(_Member, st.sampled_from(texts), st.just(value=True), _JSON)


def _text(members: list[_Member], space: str) -> str:
    texts = (f"{space}{key}{space}:{space}{value}{space}" for key, _, value in members)
    return "{" + (",".join(texts) or space) + "}"


def _expected(members: list[_Member], space: str, name: str, value: str) -> str:
    """Build the object with the members set, instead of splicing it."""
    if any(member.is_target for member in members):
        return _text([m._replace(value=value) if m.is_target else m for m in members], space)
    comma = "," if members else ""
    return f'{_text(members, space)[:-1]}{comma}"{name}":{value}}}'


@given(
    st.lists(
        _OTHERS | _target(*_SPELLINGS),
        unique_by=lambda member: member.is_target or member.key.casefold(),
        max_size=6,
    ),
    _SPACES,
)
def test_only_the_field_changes(members: list[_Member], space: str) -> None:
    """In any object, Ollama reads the bound and every other byte stays."""
    before = _text(members, space).encode()
    parse(before)
    after = with_generation(before, ("max_tokens",), 7)
    assert after.decode() == _expected(members, space, "max_tokens", "7")
    assert _ollama_reads(after, ("max_tokens",)) == gojson.loads(after)["max_tokens"] == 7


@given(
    st.lists(_OTHERS | _target("num_predict", "num_predic\\u0074"), max_size=6),
    st.lists(_OTHERS, unique_by=lambda member: member.key, max_size=4),
    st.sampled_from(['"options"', '"Option\u017f"', '"\\u004fPTIONS"']),
    st.integers(0, 4),
    _SPACES,
)
def test_only_the_option_changes(
    options: list[_Member], others: list[_Member], key: str, place: int, space: str
) -> None:
    """In any options, however often repeated, Ollama reads the bound and nothing else changes."""
    members = [*others]
    members.insert(place, _Member(key, is_target=True, value=_text(options, space)))
    before = _text(members, space).encode()
    parse(before)
    after = with_generation(before, ("options", "num_predict"), 7)
    inner = _expected(options, space, "num_predict", "7")
    assert after.decode() == _expected(members, space, "options", inner)
    assert _ollama_reads(after, ("options", "num_predict")) == 7
    assert with_generation(after, ("options", "num_predict"), 7) == after


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        *((f'{{"max_tokens":{value}}}', 100) for value in ("100", "100.0", "1e2")),
        *((f'{{"max_tokens":{value}}}', None) for value in ("0", "-1", "1.5", "true", '"9"', "{}")),
        *((f'{{"max_tokens":{n},"max_completion_tokens":5}}', 5) for n in ("null", "0", "-0.0")),
        ('{"max_completion_tokens":5,"MAX_TOKENS":3}', 3),
        ('{"max_tokens":5,"options":{"num_predict":9}}', 9),
        ('{"max_tokens":5,"options":{"num_predict":-1}}', 5),
        ('{"OPTIONS":{"num_predict":1,"num_predict":9}}', 9),
        ('{"options":{"num_predict":9,"num_predict":null}}', None),
        ('{"options":{"Num_Predict":9}}', None),
        *((f'{{"options":{value}}}', None) for value in ("null", "[9]", '"num_predict"', "5")),
        ('{"num_predict":9}', None),
    ],
)
def test_asked(body: str, asked: int | None) -> None:
    """The first field that holds an integer of 1 or more is the client's own bound."""
    assert _measured(body, (("options", "num_predict"), *OPENAI)).asked == asked


def _chat(message: str) -> str:
    return f'{{"model":"m","messages":[{{"role":"user"}},{message}]}}'


def _part(*members: str) -> str:
    return _chat('{"content":[{"type":"text","text":"t"},{' + ",".join(members) + "}]}")


@pytest.mark.parametrize(
    ("body", "media", "texts"),
    [
        (f'{{"images":["{PNG}","{PNG}"]}}', 2, 2),
        (f'{{"IMAGE\u017f":["{PNG}"]}}', 1, 1),
        ('{"images":[null,[1,2],""]}', 3, 0),
        (f'{{"images":"{PNG}"}}', 0, 0),
        (_chat(f'{{"Image\u017f":["{PNG}"]}}'), 1, 1),
        (f'{{"Me\u017f\u017fAGES":[{{"images":["{PNG}"]}}]}}', 1, 1),
        (_chat(f'{{"images":["{PNG}"],"Images":["{PNG}"],"imag\\u0065s ":["{PNG}"]}}'), 2, 2),
        (_part('"type":"image_url"', f'"image_url":"{PNG}"'), 1, 1),
        (_part('"TYPE":"image_url"', f'"Image_URL":{{"detail":"low","URL":"{PNG}"}}'), 1, 1),
        (_part('"type":"image_url"', f'"image_url":{{"url":"{PNG}","Url":"{PNG}"}}'), 2, 2),
        (_part('"type":"image_url"', f'"image_url":"{PNG}"', f'"IMAGE_URL":"{PNG}"'), 2, 2),
        (_part('"type":"input_audio"', f'"input_audio":{{"data":"{PNG}","format":"wav"}}'), 1, 1),
        (_part('"type":"image"', f'"source":{{"type":"base64","data":"{PNG}"}}'), 1, 1),
        (_part('"type":"image"', '"type":null', f'"source":{{"data":"{PNG}"}}'), 1, 1),
        (_part('"type":"image_url"', '"image_url":null'), 1, 0),
        (_part('"type":null', '"source":{}', '"image_url":{"url":5}'), 2, 0),
        (_part('"type":"text"', '"text":"image_url"', '"image_url":null'), 0, 0),
        (f'{{"input":[{{"content":[{{"type":"input_image","image_url":"{PNG}"}}]}}]}}', 1, 1),
        (_chat(f'{{"content":"{PNG}","x":["{PNG}"],"tool":{{"images":["{PNG}"]}}}}'), 0, 0),
        ('{"messages":{"images":["a"]},"input":["images"],"prompt":"images"}', 0, 0),
        ('{"messages":[null,5,"images",[["a"]],{"content":[null,"image_url",[1]]}]}', 0, 0),
    ],
)
def test_media_are_counted_and_taken_out(body: str, media: int, texts: int) -> None:
    """Media are found where Ollama reads them, under keys in any case, and nowhere else."""
    measured = _measured(body)
    assert (measured.media, len(body.encode()) - measured.text) == (media, texts * len(PNG))


def test_escapes_are_not_taken_out() -> None:
    """An escaped spelling is longer than its text; the difference counts as text."""
    assert _measured('{"images":["\\u0041\\ud83d\\ude00"]}').text == 33 - 2
    assert _measured('{"images":["\u00e9"]}').text == 17 - 1


_TEXTS = st.text(max_size=4) | st.sampled_from(["image", "image_url", "input_audio", "\ud800"])
_HOLDERS = st.sampled_from(
    ["image_url", "Image_URL", "input_audio", "source", "type", "url", "data"]
)
_PARTS = st.dictionaries(_HOLDERS, _PLAIN | _TEXTS | st.dictionaries(_HOLDERS, _PLAIN | _TEXTS))
_LISTS = st.sampled_from(["images", "IMAGES", "content", "Content"])
_MESSAGES = st.dictionaries(_LISTS, _TEXTS | st.lists(_PARTS | _TEXTS))
_FIELDS = st.sampled_from(["messages", "Input", "images", "max_tokens"])
_BODIES = st.dictionaries(_FIELDS, _PLAIN | st.lists(_MESSAGES | _TEXTS))


@given(st.builds(json.dumps, _BODIES, ensure_ascii=st.booleans()))
def test_a_measure_is_within_the_body(text: str) -> None:
    """Any object can be measured: media take no more bytes than it has, no bound is below 1."""
    body = text.encode("utf-8", "replace")
    measured = measure_document(parse(body), len(body), OPENAI)
    assert 0 < measured.text <= len(body)
    assert measured.media >= (measured.text < len(body))
    assert measured.asked is None or measured.asked >= 1
    inputs = run(measured_inputs(body, parse(body), "input")).inputs
    assert all(0 <= size <= len(body) for size in inputs)


@pytest.mark.parametrize(
    ("value", "inputs"),
    [
        *(('"abc"', (3,)), ('""', (0,)), ('["a","bc",""]', (1, 2, 0)), ("[]", (0,))),
        *((f'"{text}"', (6,)) for text in ("\u00e9\U0001f600", "\\u00e9\\ud83d\\ude00")),
        ('"\\ud800"', (3,)),
        *((value, None) for value in ("null", "5", "{}", '["a",5]', '[["a"]]', "[1,2]")),
    ],
)
def test_inputs(value: str, inputs: tuple[int, ...] | None) -> None:
    """Each text to embed counts its UTF-8 bytes; anything else counts as the whole body."""
    body = f'{{"Prompt":{value}}}'.encode()
    found = [run(measured_inputs(body, parse(body), field)) for field in ("prompt", "input")]
    whole = Measure(len(body), 0, Counter([len(body)]))
    assert found == [whole if inputs is None else Measure(len(body), 0, Counter(inputs)), whole]


def test_large_bodies() -> None:
    """Bodies of megabytes are measured and spliced like any other."""
    members = ",".join(f'"{n}":{n}' for n in range(900))
    text = '\\"max_tokens\\":' * 10**5
    body = f'{{{members},"messages":[{"{}," * 10**5}"{text}"]{" " * 10**6}}}'.encode()
    assert with_generation(body, ("max_tokens",), 7) == body[:-1] + b',"max_tokens":7}'
    assert _measured(body.decode(), OPENAI) == Measure(len(body), 0, messages=100_001)
