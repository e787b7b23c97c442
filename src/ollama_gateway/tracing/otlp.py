"""The JSON of OTLP: what a collector reads at `/v1/traces`.

Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding and opentelemetry-proto
1.x, `trace/v1/trace.proto`, `common/v1/common.proto`. Protobuf's JSON mapping, with OTLP's own
rules: ids are hexadecimal, 64-bit numbers are strings, enumerations are numbers, names are in
lowerCamelCase.

The functions return text: objects that `json` would then encode took three times as long, half of
what a traced request costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from json.encoder import encode_basestring_ascii as quoted
from typing import Final, Literal

SERVER: Final = 2
CLIENT: Final = 3
"""`SpanKind`."""
ERROR: Final = '{"code":2}'
"""A `Status`; a span without one is unset."""
HAS_IS_REMOTE: Final = 0x100
IS_REMOTE: Final = 0x200
"""`SpanFlags`: whether the parent is in another process, and that this is known."""
SAMPLED: Final = 1

Value = str | int
Pairs = Iterable[tuple[str, Value | None]]
"""Attributes; those without a value are left out."""


def attributes(pairs: Pairs) -> str:
    """Return a list of `KeyValue`."""
    found = []
    for key, value in pairs:
        if isinstance(value, str):
            kind = f'"stringValue":{quoted(value)}'
        elif value is None:
            continue
        elif isinstance(value, bool):
            kind = '"boolValue":true' if value else '"boolValue":false'
        else:
            kind = f'"intValue":"{value}"'
        found.append(f'{{"key":{quoted(key)},"value":{{{kind}}}}}')
    return f"[{','.join(found)}]"


def event(at: int, name: str) -> str:
    """Return an `Event`, at a time in ns since 1970."""
    return f'{{"timeUnixNano":"{at}","name":{quoted(name)}}}'


def span(
    ids: tuple[str, str, str | None],
    kind: Literal[2, 3],
    name: str,
    times: tuple[int, int],
    flags: int,
    pairs: Pairs,
    events: Iterable[str],
    status: str | None,
) -> str:
    """Return a `Span`.

    Args:
        ids: of the trace, the span and its parent, if it has one; hexadecimal.
        kind: SERVER or CLIENT.
        name: its name.
        times: its beginning and end, in ns since 1970.
        flags: those of W3C and `SpanFlags`.
        pairs: its attributes.
        events: its events.
        status: ERROR, or None.

    """
    trace_id, span_id, parent_id = ids
    began, ended = times
    parent = "" if parent_id is None else f'"parentSpanId":"{parent_id}",'
    ending = "" if status is None else f',"status":{status}'
    return (
        f'{{"traceId":"{trace_id}","spanId":"{span_id}",{parent}"flags":{flags},'
        f'"name":{quoted(name)},"kind":{kind},"startTimeUnixNano":"{began}",'
        f'"endTimeUnixNano":"{max(began, ended)}","attributes":{attributes(pairs)},'
        f'"events":[{",".join(events)}]{ending}}}'
    )


def export(resource: Pairs, version: str, spans: Iterable[str]) -> bytes:
    """Return an `ExportTraceServiceRequest` with the spans of one resource."""
    return (
        f'{{"resourceSpans":[{{"resource":{{"attributes":{attributes(resource)}}},"scopeSpans":['
        f'{{"scope":{{"name":"ollama_gateway","version":{quoted(version)}}},'
        f'"spans":[{",".join(spans)}]}}]}}]}}'
    ).encode()
