"""The JSON of OTLP: what a collector reads at `/v1/traces`.

Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding and opentelemetry-proto
1.x, `trace/v1/trace.proto`, `common/v1/common.proto`. Protobuf's JSON mapping, with OTLP's own
rules: ids are hexadecimal, 64-bit numbers are strings, enumerations are numbers, names are in
lowerCamelCase.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, Literal

SERVER: Final = 2
CLIENT: Final = 3
"""`SpanKind`."""
ERROR: Final = 2
"""`StatusCode`; a span without a status is unset, 0."""
HAS_IS_REMOTE: Final = 0x100
IS_REMOTE: Final = 0x200
"""`SpanFlags`: whether the parent is in another process, and that this is known."""
SAMPLED: Final = 1

Json = dict[str, Any]
Value = str | int | float | bool


def attribute(key: str, value: Value) -> Json:
    """Return a `KeyValue`."""
    if isinstance(value, str):
        return {"key": key, "value": {"stringValue": value}}
    if isinstance(value, bool):
        return {"key": key, "value": {"boolValue": value}}
    if isinstance(value, int):
        return {"key": key, "value": {"intValue": str(value)}}
    return {"key": key, "value": {"doubleValue": value}}


def attributes(pairs: Iterable[tuple[str, Value | None]]) -> list[Json]:
    """Return the attributes that have a value."""
    return [attribute(key, value) for key, value in pairs if value is not None]


def event(at: int, name: str, values: list[Json] | None = None) -> Json:
    """Return an `Event`, at a time in ns since 1970."""
    found: Json = {"timeUnixNano": str(at), "name": name}
    if values:
        found["attributes"] = values
    return found


def span(
    ids: tuple[str, str, str | None],
    kind: Literal[2, 3],
    name: str,
    times: tuple[int, int],
    flags: int,
) -> Json:
    """Return a `Span` without attributes.

    Args:
        ids: of the trace, the span and its parent, if it has one; hexadecimal.
        kind: SERVER or CLIENT.
        name: its name.
        times: its beginning and end, in ns since 1970.
        flags: those of W3C and `SpanFlags`.

    """
    trace_id, span_id, parent_id = ids
    began, ended = times
    found: Json = {"traceId": trace_id, "spanId": span_id}
    if parent_id is not None:
        found["parentSpanId"] = parent_id
    found |= {
        "flags": flags,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(began),
        "endTimeUnixNano": str(max(began, ended)),
    }
    return found
