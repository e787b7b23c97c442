"""Only authorised models are served, whatever a body looks like.

A second reader, the simulator's, was written independently after Go's decoder. For every body that
the gateway lets pass, this reader must find a model that the key may use, by its own name or by an
alias.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import attrs
import pytest
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest, Forbidden
from ollama_gateway.flow.admission import ModelCall, read_call
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import DESCRIPTIONS, INFERENCE, Endpoint
from ollama_gateway.simulator import gojson
from ollama_gateway.simulator.names import InvalidName, parse
from ollama_gateway.wire.large import RequestBody
from ollama_gateway.wire.structure import Cutting
from tests.flow.aliased import BACKEND, CALLER, GRANTED, NAMES, SERVED
from tests.wire.scanning import TINY, large, sent

SHOW = DESCRIPTIONS[0]
ROUTES = (*INFERENCE, SHOW)
FIELDS = gojson.Shape("api", "Request", {"model": "string", "name": "string", "stream": "bool"})
ON = {route.path: route for route in ROUTES}


def admitted(endpoint: Endpoint, body: RequestBody) -> ModelCall:
    """Return the gateway's call for a body; raises BadRequest or Forbidden."""
    ask = Ask("id", endpoint, None, [], "", 0.0, cast("Any", None))
    return trio.run(partial(read_call, CALLER, ask, body, NAMES, is_measured=True))


def admitted_in_steps(endpoint: Endpoint, body: bytes, step: int, cutting: Cutting) -> ModelCall:
    """Return the call for a body that is treated as large and cut wherever it can be."""
    return admitted(endpoint, large(body, step=step, long=80, cutting=cutting, chunk=3))


def assert_is_the_same(call: ModelCall, other: ModelCall) -> None:
    """Assert that reading in steps gives the same call and the same upstream body."""
    for one, two in (
        (call.models, other.models),
        (call.requested_name, other.requested_name),
        (call.streams, other.streams),
        (call.load_options, other.load_options),
        (call.hides_usage, other.hides_usage),
        (call.size, other.size),
        (sent(call.body), sent(other.body)),
    ):
        assert one == two
    if call.measure is not None:  # else it only loads, and a large body never counts as a load
        assert call.measure == other.measure


def assert_is_authorised(call: ModelCall) -> str:
    """Read the upstream body for each of its models as Ollama does, and return the outcome."""
    outcomes = {_outcome_at(call.to(model)) for model in call.models}
    assert len(outcomes) == 1
    return outcomes.pop()


def _outcome_at(call: ModelCall) -> str:
    try:
        fields = gojson.decode(sent(call.body_for(BACKEND)), FIELDS)
        model = fields.get("model", "")
        if call.endpoint is SHOW:
            model = model or fields.get("name", "")
        name = parse(model)
    except (gojson.BadBody, InvalidName):
        return "refused by the backend"
    is_granted = call.alias is not None and call.alias.name == "granted"
    assert name.folded in (GRANTED if is_granted else SERVED)
    assert not name.cloud
    if call.endpoint.searches:
        tools = fields.get("tools")
        kinds = [tool.get("type") for tool in tools or () if isinstance(tool, dict)]
        assert not any(str(kind).strip().startswith("web_search") for kind in kinds)
    if call.endpoint.streams_by_default is not None:
        assert fields.get("stream", call.endpoint.streams_by_default) is call.streams
    if call.hides_usage:
        assert fields["stream_options"] == {"include_usage": True}
    return "served"


_OPEN = st.sampled_from(
    [
        *("m1", "M1", " m1 ", "m1:latest", "m1:LOCAL", "library/m1", "me/m2:v1", "Me/M2:V1:local"),
        *("https://registry.ollama.ai/library/m1", "REGISTRY.ollama.ai/library/m1:latest"),
        *(
            "gpt-4o",
            "GPT-4o:latest",
            "library/gpt-4o",
            "granted",
            "own",
            "claude-haiku",
            "Claude-x:1",
        ),
    ]
)
_CLOSED = st.sampled_from(
    [
        *(
            "m2",
            "m1:v2",
            "me/m1",
            "m1:cloud",
            "m1:latest-cloud",
            "me/m2:v1-cloud",
            "m1:local:cloud",
        ),
        *("closed", "closed-1", "far", "far:1", "m3", "gpt-4o:1", "granted:cloud", "me/gpt-4o"),
        *("claude-closed", "claude-x:cloud", "own:v2", "claude", "alias:granted", "m3:cloud"),
        *("ollama.com/library/m1", "x://m1", "registry.ollama.ai:443/library/m1", "a/b/c/m1"),
        *("m\u0131", "\uff4d1", "m1\u0000", "m1\n", "\u00a0m1", "", " ", "me/m2:v1\ud800"),
    ]
)
_ODD = st.sampled_from(
    ["null", "5", "true", "[]", '["m1"]', '{"model":"m1"}', '"\\u006d1"', "1e999"]
)
_TEXTS = st.builds(json.dumps, _OPEN | _OPEN | _CLOSED, ensure_ascii=st.booleans())
_BOOLEANS = st.sampled_from(["true", "true", "false", "null", '"true"'])
_TOOLS = st.sampled_from(
    [
        *(
            '[{"type":"function"}]',
            "[]",
            "null",
            '[{"type":"web_search"}]',
            '[{"TYPE":"web_search_1"}]',
        ),
        *('[{"type":"web_search","type":null}]', '[{"type":"x"},{"type":"\\u0077eb_search"}]'),
        *('[{"type":"web_search","Type":"function"}]', '[{"type":"function","type":"web_search"}]'),
    ]
)
_OPTIONS = st.sampled_from(
    ["null", "{}", '{"include_usage":false}', '{"include_usage":true,"INCLUDE_USAGE":false}', "5"]
)


def _spelt(*keys: str) -> st.SearchStrategy[str]:
    return st.sampled_from(keys).map(lambda key: f'"{key}"')


_KEYS = _spelt("model", "Model", "MODEL", "m\\u006fdel")
_LIKE = _spelt("name", "NAME", "model ", "mode\u0131", "nam\u0435")
_MODELS = st.tuples(_KEYS, _TEXTS)
_RIVALS = st.tuples(_KEYS | _LIKE, _TEXTS | _ODD)
_SEARCHES = st.tuples(_spelt("tools", "Tool\u017f", "TOOLS"), _TOOLS)
_OTHERS = (
    st.tuples(_spelt("stream", "STREAM", "\u017ftream", "stream\ufb06"), _BOOLEANS)
    | _SEARCHES
    | _SEARCHES
    | st.tuples(_spelt("stream_options", "\u017fTREAM_OPTIONS"), _OPTIONS)
    | st.tuples(
        _spelt("messages", "input", "prompt", "options", ""), _ODD | st.just('{"model":"m2"}')
    )
)
_GAPS = st.sampled_from(["", " ", "\n\t"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Generate bodies with a model, often a rival name, and sometimes bytes around them."""
    others = st.lists(_OTHERS, max_size=2, unique_by=lambda member: member[0][1:4].casefold())
    members = [draw(_MODELS), *draw(st.lists(_RIVALS, max_size=1)), *draw(others)]
    gap = draw(_GAPS)
    texts = [f"{gap}{key}{gap}:{gap}{value}{gap}" for key, value in draw(st.permutations(members))]
    before, after = draw(st.sampled_from([("", "")] * 6 + [("\ufeff", ""), ("", '{"model":"m2"}')]))
    text = f"{before}{{{','.join(texts)}}}{after}"
    return text.encode("utf-8", "surrogatepass")


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(ROUTES) | st.sampled_from([ON["/v1/responses"], ON["/v1/messages"]]),
    bodies(),
    st.sampled_from([1, 2, 7, 30]),
)
def test_no_body_is_read_in_two_ways(endpoint: Endpoint, body: bytes, step: int) -> None:
    """A body that passes asks only for models and tools that the key may use, large or not."""
    outcomes = [
        outcome_of(partial(admitted, endpoint, body)),
        outcome_of(partial(admitted_in_steps, endpoint, body, step, Cutting(8, 10_000))),
        outcome_of(partial(admitted_in_steps, endpoint, body, step, TINY)),
    ]
    whole, shallow, deep = outcomes
    if isinstance(whole, str):
        assert outcomes == [whole] * 3
        event(f"refused: {whole}")
        return
    assert isinstance(shallow, ModelCall)
    assert isinstance(deep, ModelCall)
    assert None not in (shallow.measure, deep.measure)
    assert_is_the_same(whole, shallow)
    # A cut within a message or a tool may count it twice, and changes nothing else.
    assert_is_the_same(whole, attrs.evolve(deep, measure=whole.measure))
    event(assert_is_authorised(whole))
    assert_is_authorised(deep)


def outcome_of(reading: Callable[[], ModelCall]) -> ModelCall | str:
    """Return the call, or the reason of its refusal."""
    try:
        return reading()
    except (BadRequest, Forbidden) as refusal:
        return refusal.reason


@pytest.mark.parametrize("endpoint", ROUTES, ids=lambda endpoint: endpoint.path)
@pytest.mark.parametrize(
    "name", ["m1", " M1 ", "m1:local", "https://registry.ollama.ai/library/M1"]
)
@pytest.mark.parametrize("key", ["model", "MODEL", "m\\u006fdel"])
def test_a_name_may_be_spelt_as_the_server_reads_it(
    endpoint: Endpoint, name: str, key: str
) -> None:
    """Case, blanks, defaults, `:local`, a scheme and a host do not change the model."""
    call = admitted(endpoint, f'{{"{key}":"{name}","stream":null,"x":1}}'.encode())

    assert call.model.short.lower() == "m1:latest"
    assert assert_is_authorised(call) == "served"


@pytest.mark.parametrize("endpoint", ROUTES, ids=lambda endpoint: endpoint.path)
@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m1","MODEL":"m2"}',
        b'{"model":"m1","model":"m1"}',
        b'{"model":"m1","\xc5\xbftream":true,"Stream":false}',
        b'{"model":"m1","stra\xc3\x9fe":1,"STRASSE":1}',
        b'{"model":"m1"}{"model":"m2"}',
        b'{"model":"m1"} x',
        b'\xef\xbb\xbf{"model":"m1"}',
        b'{"model":"m1","x":' + b"[" * 201 + b"]" * 201 + b"}",
        b'{"model":"m1","x":"\xff"}',
    ],
)
def test_what_two_readers_may_take_differently_is_refused(endpoint: Endpoint, body: bytes) -> None:
    """Every route refuses keys equal when folded, bytes behind the value, a BOM, and depth."""
    with pytest.raises(BadRequest):
        admitted(endpoint, body)
    with pytest.raises(BadRequest):
        admitted_in_steps(endpoint, body, 4, TINY)


def test_the_old_name_counts_where_the_new_one_is_empty() -> None:
    """`name` is read only on the route that has it, and only if `model` is empty."""
    show = ON["/api/show"]

    assert admitted(show, b'{"model":"","name":"m1"}').requested_name == "m1"
    for body in (b'{"model":"m2","name":"m1"}', b'{"model":"","name":"m2"}'):
        with pytest.raises(Forbidden):
            admitted(show, body)
    with pytest.raises(BadRequest):
        admitted(ON["/api/chat"], b'{"name":"m1"}')
