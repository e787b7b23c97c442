"""Requests in virtual time, and the spans that are made of them."""

from __future__ import annotations

from typing import Any

import trio.testing

from ollama_gateway.flow.endpoints import INFERENCE
from ollama_gateway.simulator import Model, Script
from ollama_gateway.tracing.spans import SpanMaker
from ollama_gateway.turns import run_through
from tests.support.scenario import CHAT, Scenario, open_scenario
from tests.tracing.otlp_rules import checked, values
from tests.tracing.test_context import PARENT, SPAN, TRACE

Clock = trio.testing.MockClock
TRACED = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
SLOW = Model("m1:latest", tokens=("a", "b", "c"), first_token=1, between_tokens=1)
SERVER, CLIENT, ERROR = 2, 3, 2


def spans_of(scenario: Scenario) -> list[dict[str, Any]]:
    """Return the spans of all requests, each checked against the definitions of OTLP."""
    maker = SpanMaker(
        resource={"service.name": "test", "process.pid": 1},
        version="1",
        operations={one.path: one.operation for one in INFERENCE if one.operation},
        address_of=lambda name: (f"{name}.example", 11434),
    )
    return checked(run_through(maker.document(scenario.records)))


def after(span: dict[str, Any], other: dict[str, Any]) -> tuple[float, float]:
    """Return the beginning and the end of a span, in seconds after the beginning of another."""
    began = int(other["startTimeUnixNano"])
    times = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
    return (times[0] - began) / 1e9, (times[1] - began) / 1e9


def events(span: dict[str, Any]) -> list[tuple[str, float]]:
    """Return the events of a span, in seconds after its beginning."""
    began = int(span["startTimeUnixNano"])
    return [(one["name"], (int(one["timeUnixNano"]) - began) / 1e9) for one in span["events"]]


async def test_a_chat_has_a_span_and_its_attempt_another(autojump_clock: Clock) -> None:
    """They have the names, the times and the attributes of the conventions."""
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        await scenario.ask()
        server, client = spans_of(scenario)
        record = scenario.records[0]

    assert (server["kind"], client["kind"]) == (SERVER, CLIENT)
    assert server["name"] == client["name"] == "chat m1:latest"
    assert client["parentSpanId"] == server["spanId"]
    assert client["traceId"] == server["traceId"] == record.trace_id
    assert "parentSpanId" not in server
    assert after(server, server) == after(client, server) == (0, 3)
    assert events(server) == [("admitted", 0), ("first_chunk", 1), ("end", 3)]
    assert events(client) == [("first_chunk", 1)]
    assert "status" not in server | client
    model = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ollama",
        "gen_ai.request.model": "m1:latest",
        "gen_ai.response.model": "m1:latest",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 3,
        "ollama_gateway.backend": "a",
    }
    assert values(client) == {
        **model,
        "server.address": "a.example",
        "server.port": 11434,
        "ollama_gateway.hedge": False,
    }
    assert values(server) == {
        **model,
        "http.route": "/api/chat",
        "http.response.status_code": 200,
        "ollama_gateway.request.id": record.request_id,
        "ollama_gateway.affinity": "new",
        "ollama_gateway.outcome": "completed",
    }


async def test_a_hedge_stands_beside_the_attempt_it_overtakes(autojump_clock: Clock) -> None:
    """The two spans overlap, and the loser's ends with its reason when the winner answers."""
    hedged = {
        **TRACED,
        "GATEWAY_RACE_HEDGE_AFTER": "2s",
        "GATEWAY_RACE_MAX_HEDGE_RATIO": "1",
        "GATEWAY_AFFINITY_ENABLED": "false",
    }
    async with open_scenario(models=(SLOW,), settings=hedged) as scenario:
        key = scenario.manager()
        for backend in "ab":  # both are warm then
            await scenario.ask(key=key, headers={"x-gateway-backend": backend})
        await scenario.poll()
        scenario.records.clear()
        scenario.simulators["a"].script(Script(hang_after=0))
        await scenario.ask()
        server, first, second = spans_of(scenario)

    assert after(first, server) == (0, 3)
    assert after(second, server) == (2, 5)
    assert (values(first)["ollama_gateway.reason"], "status" in first) == ("overtaken", False)
    assert values(first)["ollama_gateway.hedge"] is False
    assert values(second)["ollama_gateway.hedge"] is True
    assert "ollama_gateway.reason" not in values(second)
    assert "gen_ai.usage.output_tokens" not in values(first)


async def test_a_failed_attempt_has_an_error(autojump_clock: Clock) -> None:
    """The request itself has none, since another backend served it."""
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        scenario.simulators["a"].script(Script(status=500, error="a prompt, quoted"))
        await scenario.ask()
        server, first, second = spans_of(scenario)

    assert first["status"] == {"code": ERROR}
    assert values(first)["error.type"] == "status_500"
    assert "status" not in server | second
    assert "quoted" not in str([server, first, second])


async def test_a_failed_request_has_an_error(autojump_clock: Clock) -> None:
    """So has the attempt that broke in the middle of its answer."""
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        scenario.simulators["a"].script(Script(cut_after=1))
        await scenario.ask()
        server, client = spans_of(scenario)

    assert server["status"] == client["status"] == {"code": ERROR}
    assert values(server)["error.type"] == values(client)["error.type"] == "connection_broken"


async def test_a_refused_request_is_no_error(autojump_clock: Clock) -> None:
    """A 4xx is the client's (HTTP conventions), and names no model that no backend has."""
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        await scenario.ask(body={**CHAT, "model": "made-up"})
        [server] = spans_of(scenario)

    assert "status" not in server
    assert server["name"] == "chat"
    assert values(server)["ollama_gateway.reason"] == "unknown_model"


async def test_a_wait_in_line_shows(autojump_clock: Clock) -> None:
    """Its beginning and its end are events."""
    async with (
        open_scenario(models=(SLOW,), settings=TRACED, slots=1) as scenario,
        trio.open_nursery() as nursery,
    ):
        for _ in range(3):
            nursery.start_soon(scenario.ask)
    last = scenario.records[-1]
    server = next(
        span for span in spans_of(scenario) if span["spanId"] == getattr(last.trace, "span_id", 0)
    )

    assert events(server) == [
        ("admitted", 0),
        ("queued", 0),
        ("dequeued", 3),
        ("first_chunk", 4),
        ("end", 6),
    ]


async def test_the_trace_of_a_client_goes_on(autojump_clock: Clock) -> None:
    """Its span is the parent of the request's, the attempt's is the parent of the backend's."""
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        sent = {"traceparent": PARENT.decode(), "tracestate": "a=1", "x-request-id": "mine"}
        reply = await scenario.ask(headers=sent)
        server, client = spans_of(scenario)
        record, seen = scenario.records[0], dict(scenario.simulators["a"].seen[-1].headers)

    assert (server["traceId"], server["parentSpanId"]) == (TRACE, SPAN)
    assert record.trace_id == TRACE
    assert seen[b"traceparent"].decode() == f"00-{TRACE}-{client['spanId']}-01"
    assert seen[b"tracestate"] == b"a=1"
    assert record.client_request_id == "mine"
    assert seen[b"x-request-id"].decode() == record.request_id == reply.headers["x-request-id"]


async def test_the_trace_of_a_stranger_counts_for_nothing(autojump_clock: Clock) -> None:
    """Without a valid key there is no span and no record."""
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        await scenario.ask(key="wrong", headers={"traceparent": PARENT.decode()})

        assert spans_of(scenario) == []


async def test_a_trace_that_is_not_sampled_is_still_passed_on(autojump_clock: Clock) -> None:
    """A client's choice counts, for the backend too, and the record names the trace."""
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        await scenario.ask(headers={"traceparent": f"00-{TRACE}-{SPAN}-00"})
        record, seen = scenario.records[0], dict(scenario.simulators["a"].seen[-1].headers)

    assert record.trace is not None
    assert not record.trace.is_sampled
    assert record.trace_id == TRACE
    assert seen[b"traceparent"].startswith(f"00-{TRACE}-".encode())
    assert seen[b"traceparent"].endswith(b"-00")
    assert SPAN.encode() not in seen[b"traceparent"]


async def test_without_tracing_the_headers_of_a_client_pass(autojump_clock: Clock) -> None:
    """The gateway is then no part of the trace, and its records name none."""
    async with open_scenario(models=(SLOW,)) as scenario:
        await scenario.ask(headers={"traceparent": PARENT.decode(), "tracestate": "a=1"})
        record, seen = scenario.records[0], dict(scenario.simulators["a"].seen[-1].headers)

    assert (seen[b"traceparent"], seen[b"tracestate"]) == (PARENT, b"a=1")
    assert record.trace_id is None


async def test_an_id_that_is_long_or_odd_is_not_kept(autojump_clock: Clock) -> None:
    """Only visible ASCII of up to 128 characters stays."""
    async with open_scenario(models=(SLOW,)) as scenario:
        for given in ("x" * 128, "x" * 129, "a b", "é"):
            await scenario.ask(headers={"x-request-id": given})

    assert [r.client_request_id for r in scenario.records] == ["x" * 128, None, None, None]


async def test_a_managed_model_is_traced(autojump_clock: Clock) -> None:
    """A command has a span by its route, and its backend gets the attempt's."""
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        body, headers = {"model": "m1"}, {"x-gateway-backend": "b"}
        path, method = "/api/delete", "DELETE"
        key = scenario.manager()
        await scenario.ask(path, body, method=method, key=key, headers=headers)
        server, client = spans_of(scenario)
        [asked] = [one for one in scenario.simulators["b"].seen if one.path == path]

    seen = dict(asked.headers)
    assert server["name"] == client["name"] == "/api/delete"
    assert client["spanId"].encode() in seen[b"traceparent"]


async def test_no_span_has_a_prompt_a_key_or_a_user(autojump_clock: Clock) -> None:
    """What a client says and who it is stays out of all spans."""
    secret = "s3cret"
    chat = {**CHAT, "messages": [{"role": "user", "content": secret}], "user": secret}
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        key = scenario.store.create(secret, user_header="x-user")[1]
        await scenario.ask(body=chat, key=key, headers={"x-user": secret, "x-request-id": secret})
        found = str(spans_of(scenario))

    assert scenario.records[0].end_user == secret
    assert secret not in found
    assert key not in found
