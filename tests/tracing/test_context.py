"""`traceparent` and `tracestate`: read from clients, written for backends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.tracing.context import Tracer, parent_in
from ollama_gateway.tracing.sampling import Sampler

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()


def test_a_parent_is_read() -> None:
    """Ids, the sampled flag and the vendors' state come from the two headers."""
    found = parent_in([(b"traceparent", PARENT), (b"tracestate", b"a=1,b@c=2")])

    assert found is not None
    assert (found.trace_id, found.span_id, found.is_sampled) == (TRACE, SPAN, True)
    assert found.state == b"a=1,b@c=2"


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        PARENT.upper(),
        PARENT + b"-more",
        b"ff" + PARENT[2:],
        b"00-" + b"0" * 32 + PARENT[35:],
        PARENT[:36] + b"0" * 16 + b"-01",
        PARENT[:-1],
        b" " + PARENT,
        PARENT + b"\n",
    ],
)
def test_a_malformed_parent_is_ignored(value: bytes) -> None:
    """A header that is not exactly a `traceparent` names no span."""
    assert parent_in([(b"traceparent", value)]) is None


def test_two_parents_are_none() -> None:
    """Where two headers disagree, neither counts."""
    assert parent_in([(b"traceparent", PARENT)] * 2) is None


def test_a_later_version_is_read_as_far_as_it_is_known() -> None:
    """A version above 00 may say more behind its flags."""
    assert parent_in([(b"traceparent", b"01" + PARENT[2:] + b"-more")]) is not None


@pytest.mark.parametrize(
    "state",
    [b"a", b"A=1", b"=1", b"a=" + b"x" * 600, b",".join([b"a=1"] * 33), b"a=1,b=\x7f", b"a=b=c"],
)
def test_a_malformed_state_is_dropped_alone(state: bytes) -> None:
    """The trace goes on without it."""
    found = parent_in([(b"traceparent", PARENT), (b"tracestate", state)])

    assert found is not None
    assert found.state == b""


def test_several_states_are_one() -> None:
    """Headers of one name are one list (RFC 9110, 5.3)."""
    states = [(b"tracestate", b"a=1"), (b"tracestate", b"b=2")]
    found = parent_in([(b"traceparent", PARENT), *states])

    assert found is not None
    assert found.state == b"a=1,b=2"


@given(st.binary(max_size=80), st.binary(max_size=600))
def test_no_header_makes_it_raise(parent: bytes, state: bytes) -> None:
    """Whatever a client sends, a trace begins."""
    headers = [(b"traceparent", parent), (b"tracestate", state)]

    assert len(Tracer(Sampler()).begin(headers).trace_id) == 32


def test_a_backend_gets_the_attempt_as_parent() -> None:
    """The client's trace goes on, with the attempt's span in place of the client's."""
    trace = Tracer(Sampler()).begin([(b"traceparent", PARENT), (b"tracestate", b"a=1")])

    assert trace.headers("b7ad6b7169203331") == [
        (b"traceparent", f"00-{TRACE}-b7ad6b7169203331-01".encode()),
        (b"tracestate", b"a=1"),
    ]


def test_a_backend_learns_that_a_trace_is_not_sampled() -> None:
    """The choice is made once for the whole trace."""
    trace = Tracer(Sampler(bound=0)).begin([])

    assert trace.headers("b7ad6b7169203331")[0][1].endswith(b"-00")
    assert not trace.is_known


@pytest.mark.parametrize(
    ("name", "ratio", "parent", "is_sampled"),
    [
        ("always_on", 0.0, False, True),
        ("always_off", 1.0, True, False),
        ("parentbased_always_on", 0.0, None, True),
        ("parentbased_always_on", 0.0, False, False),
        ("parentbased_always_off", 1.0, None, False),
        ("parentbased_always_off", 1.0, True, True),
        ("parentbased_traceidratio", 0.0, True, True),
        ("parentbased_traceidratio", 1.0, False, False),
        ("traceidratio", 0.0, True, False),
        ("traceidratio", 1.0, False, True),
    ],
)
def test_samplers_choose(
    name: str,
    ratio: float,
    parent: bool | None,  # noqa: FBT001 - a third state
    *,
    is_sampled: bool,
) -> None:
    """With `parentbased_` a client's choice counts; without one, or otherwise, the sampler's."""
    found = Sampler.of(name, ratio)

    assert found is not None
    assert found.samples("f" * 32, parent) is is_sampled


def test_the_ratio_is_compared_with_the_end_of_the_id() -> None:
    """All programs with one ratio choose the same traces."""
    half = Sampler.of("traceidratio", 0.5)

    assert half is not None
    assert half.samples("f" * 16 + "7" + "f" * 15, None)
    assert not half.samples("0" * 16 + "8" + "0" * 15, None)
