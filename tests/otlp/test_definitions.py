"""Exports, read by the classes that OpenTelemetry publishes; `tox -e tracing`."""

from __future__ import annotations

import base64
import json
from typing import Any

import trio.testing
from google.protobuf.json_format import Parse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from ollama_gateway.simulator import Script
from ollama_gateway.turns import run_through
from tests.support.scenario import open_scenario
from tests.tracing.test_context import PARENT, SPAN, TRACE
from tests.tracing.test_exporter import MAKER
from tests.tracing.test_spans import SLOW, TRACED

IDS = {"traceId", "spanId", "parentSpanId"}


def as_protobuf(value: Any) -> Any:
    """Return OTLP's JSON as protobuf's own mapping has it, where ids are in base64."""
    if isinstance(value, list):
        return [as_protobuf(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: base64.b64encode(bytes.fromhex(found)).decode() if name in IDS else as_protobuf(found)
        for name, found in value.items()
    }


async def test_an_export_is_what_opentelemetry_defines(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """All fields are known, of the right types, and mean what the gateway means by them."""
    async with open_scenario(models=(SLOW,), settings=TRACED) as scenario:
        scenario.simulators["a"].script(Script(status=500, error="boom"))
        await scenario.ask(headers={"traceparent": PARENT.decode()})
        body = run_through(MAKER.document(scenario.records))
    request = ExportTraceServiceRequest()
    Parse(json.dumps(as_protobuf(json.loads(body))), request, ignore_unknown_fields=False)
    server, failed, client = request.resource_spans[0].scope_spans[0].spans

    assert server.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == SPAN
    assert server.kind == Span.SPAN_KIND_SERVER
    assert server.flags == 0x301
    assert client.kind == failed.kind == Span.SPAN_KIND_CLIENT
    assert client.parent_span_id == failed.parent_span_id == server.span_id
    assert failed.status.code == Status.STATUS_CODE_ERROR
    assert server.status.code == client.status.code == Status.STATUS_CODE_UNSET
    assert server.end_time_unix_nano - server.start_time_unix_nano == 3_000_000_000
    found = {pair.key: pair.value for pair in client.attributes}
    assert found["gen_ai.usage.output_tokens"].int_value == 3
    assert found["ollama_gateway.hedge"].WhichOneof("value") == "bool_value"
    assert [event.name for event in server.events] == ["admitted", "first_chunk", "end"]
