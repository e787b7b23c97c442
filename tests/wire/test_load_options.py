"""Load options: how they are read from a body and changed in it."""

from __future__ import annotations

from typing import Any

import pytest

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.body import parse
from ollama_gateway.wire.large import RequestBody
from ollama_gateway.wire.load_options import AskedLoad, LoadChange, asked_load
from tests.wire.scanning import large, sent

EVERYTHING = LoadChange(("num_gpu", "use_mmap", "shift"), 8192, 3600.0)


@pytest.mark.parametrize(
    ("document", "asked"),
    [
        ({}, AskedLoad()),
        ({"options": None, "keep_alive": None, "shift": None}, AskedLoad()),
        ({"options": {"temperature": 1, "num_ctx": None}}, AskedLoad()),
        ({"OPTIONS": {"num_ctx": 8192}}, AskedLoad((("num_ctx", 8192),), num_ctx=8192)),
        ({"options": {"NUM_CTX": 8192, "Num_GPU": 0}}, AskedLoad()),
        ({"options": {"num_ctx": 8192.9}}, AskedLoad((("num_ctx", 8192.9),), num_ctx=8192)),
        ({"options": {"num_gpu": None}}, AskedLoad(present=("num_gpu",))),
        (
            {"options": {"num_gpu": 0, "use_mmap": True}, "Shift": False, "keep_alive": "5m"},
            AskedLoad(
                (("num_gpu", 0), ("use_mmap", True), ("shift", False)),
                ("num_gpu", "use_mmap", "shift"),
                keep_alive=300,
            ),
        ),
    ],
)
def test_a_body_is_read_as_ollama_reads_it(document: dict[str, Any], asked: AskedLoad) -> None:
    """Fields are found in any case; options only as written, whatever their values."""
    assert asked_load(document) == asked


@pytest.mark.parametrize("options", [[], "x", 5, True, {"num_ctx": "8192"}, {"num_ctx": True}])
def test_options_that_ollama_refuses_are_left_to_it(options: object) -> None:
    """Options of a wrong type are known as such, so that its own error reaches the client."""
    assert not asked_load({"options": options}).is_readable


BODIES = [
    ('{"a":1}', '{"a":1,"options":{"num_ctx":8192},"shift":null,"keep_alive":"3600s"}'),
    (
        ' { "options" : {} , "Keep_Alive" : -1 }\n',
        ' { "options" : {"num_ctx":8192} , "Keep_Alive" : "3600s" ,"shift":null}\n',
    ),
    (
        '{"options":null,"shift":false,"keep_alive":0,"a":1.50}',
        '{"options":{"num_ctx":8192},"shift":null,"keep_alive":"3600s","a":1.50}',
    ),
    (
        '{"options":{"num_gpu":1, "top_p":1.0 ,"num_gpu":[2],"num_gp\\u0075":3,"x":"}"},"SHIFT":1}',
        '{"options":{"top_p":1.0,"x":"}","num_ctx":8192},"SHIFT":null,"keep_alive":"3600s"}',
    ),
    (
        '{"options":{"num_ctx":1,"num_ctx":1e9,"NUM_GPU":0},"shift":true,"keep_alive":"1ms"}',
        '{"options":{"num_ctx":8192,"num_ctx":8192,"NUM_GPU":0},"shift":null,"keep_alive":"3600s"}',
    ),
]


@pytest.mark.parametrize("is_large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize(("before", "after"), BODIES)
def test_only_what_is_named_changes(before: str, after: str, *, is_large: bool) -> None:
    """Every spelling that Ollama would take is changed, and all other bytes stay."""
    body: RequestBody = large(before.encode()) if is_large else before.encode()

    assert sent(EVERYTHING.applied(body)).decode() == after
    assert asked_load(parse(after.encode())).present == ()


@pytest.mark.parametrize("body", [b'{ "a" : 1 }', b'{"options":{ "top_k" : 1 } }'])
def test_nothing_to_change_changes_nothing(body: bytes) -> None:
    """A body with nothing to change keeps all its bytes."""
    assert LoadChange().applied(body) is body


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'{"a":{"}":1}} \n', b'{"a":{"}":1},"options":{"num_ctx":8192}} \n'),
        (b'{"options":{"num_predict":1}}', b'{"options":{"num_predict":1,"num_ctx":8192}}'),
        (b'{"a":"\\"options\\""}', b'{"a":"\\"options\\"","options":{"num_ctx":8192}}'),
    ],
)
def test_options_are_added_where_the_client_has_none(before: bytes, after: bytes) -> None:
    """They go to the end, or to those that the gateway has added before to bound the answer."""
    change = LoadChange(num_ctx=8192, has_options=False)

    assert change.applied(before) == after


@pytest.mark.parametrize("name", ["options", "OPTIONS", "option\u017f"])
@pytest.mark.parametrize("value", [None, {}])
def test_options_are_found_in_every_spelling(name: str, value: object) -> None:
    """Even a null counts as there."""
    assert asked_load({name: value}).has_options
    assert not asked_load({"option": value}).has_options


def test_a_stay_that_is_taken_out_is_null() -> None:
    """Ollama takes a null for no `keep_alive` at all."""
    applied = LoadChange(keep_alive=0.0).applied(b'{"keep_alive":0}')

    assert sent(applied) == b'{"keep_alive":null}'


def test_the_changes_have_names() -> None:
    """The names are those of the fields and options."""
    assert EVERYTHING.names == ("num_ctx", "keep_alive", "num_gpu", "use_mmap", "shift")
    assert LoadChange().names == ()


def test_options_with_a_name_repeated_often_take_one_pass() -> None:
    """An object of too many keys is refused, and one below the limit is read once."""
    repeated = "{" + ",".join(['"num_gpu":1'] * 1000) + "}"
    change = LoadChange(("num_gpu",))

    assert sent(change.applied(f'{{"options":{repeated}}}'.encode())) == b'{"options":{}}'
    with pytest.raises(BadRequest):
        change.applied(f'{{"options":{repeated[:-1]},"num_gpu":1}}}}'.encode())
