"""Checks an export against the definitions of OTLP: names, kinds of values, ids and times.

Written by hand from opentelemetry-proto's `trace/v1/trace.proto`, `common/v1/common.proto` and
`resource/v1/resource.proto`, and OTLP's rules for JSON
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding). Each check raises
AssertionError, which says where the export is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

Check = Callable[[Any, str], None]
MAX_UINT64 = 2**64 - 1


def checked(body: bytes) -> list[dict[str, Any]]:
    """Check an `ExportTraceServiceRequest` and return its spans."""
    document = json.loads(body)
    _message({"resourceSpans": _list_of(_resource_spans)}, document, "export")
    spans = [
        span
        for one in document["resourceSpans"]
        for scope in one["scopeSpans"]
        for span in scope["spans"]
    ]
    ids = [span["spanId"] for span in spans]
    assert len(ids) == len(set(ids)), "two spans have one id"
    return spans


def values(span: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes of a span or a resource as plain values."""
    return {pair["key"]: _plain(pair["value"]) for pair in span["attributes"]}


def _plain(value: dict[str, Any]) -> Any:
    [(kind, found)] = value.items()
    return int(found) if kind == "intValue" else found


def _message(fields: dict[str, Check], value: Any, where: str) -> None:
    assert isinstance(value, dict), f"{where} is no message"
    for name, found in value.items():
        assert name in fields, f"{where} has no field {name}"
        fields[name](found, f"{where}.{name}")


def _list_of(check: Check) -> Check:
    def each(value: Any, where: str) -> None:
        assert isinstance(value, list), f"{where} is no list"
        for index, item in enumerate(value):
            check(item, f"{where}[{index}]")

    return each


def _text(value: Any, where: str) -> None:
    assert isinstance(value, str), f"{where} is no string"
    value.encode()  # a lone surrogate is no text


def _hexadecimal(digits: int) -> Check:
    def check(value: Any, where: str) -> None:
        assert isinstance(value, str), f"{where} is no string"
        assert re.fullmatch(f"[0-9a-f]{{{digits}}}", value), f"{where} is no id"
        assert value.strip("0"), f"{where} is the invalid id"

    return check


def _time(value: Any, where: str) -> None:
    assert isinstance(value, str) and value.isdigit(), f"{where} is no fixed64 in a string"  # noqa: PT018
    assert 0 < int(value) <= MAX_UINT64, f"{where} is out of range"


def _number(most: int) -> Check:
    def check(value: Any, where: str) -> None:
        assert type(value) is int and 0 <= value <= most, f"{where} is no number"  # noqa: PT018

    return check


def _any_value(value: Any, where: str) -> None:
    assert isinstance(value, dict) and len(value) == 1, f"{where} is no oneof"  # noqa: PT018
    [(kind, found)] = value.items()
    match kind:
        case "stringValue":
            _text(found, where)
        case "intValue":
            assert isinstance(found, str), f"{where} is no int64 in a string"
            assert -(2**63) <= int(found) < 2**63, f"{where} is out of range"
        case "boolValue":
            assert isinstance(found, bool), f"{where} is no boolean"
        case "doubleValue":
            assert isinstance(found, float), f"{where} is no number"
        case _:
            raise AssertionError(f"{where} has the kind {kind}")


def _key_values(value: Any, where: str) -> None:
    _list_of(_key_value)(value, where)
    keys = [pair["key"] for pair in value]
    assert len(keys) == len(set(keys)), f"{where} has a key twice"


def _key_value(value: Any, where: str) -> None:
    _message({"key": _text, "value": _any_value}, value, where)
    assert value.keys() == {"key", "value"}, f"{where} is incomplete"


def _event(value: Any, where: str) -> None:
    _message({"timeUnixNano": _time, "name": _text, "attributes": _key_values}, value, where)


def _status(value: Any, where: str) -> None:
    _message({"code": _number(2), "message": _text}, value, where)


def _span(value: Any, where: str) -> None:
    fields: dict[str, Check] = {
        "traceId": _hexadecimal(32),
        "spanId": _hexadecimal(16),
        "parentSpanId": _hexadecimal(16),
        "traceState": _text,
        "flags": _number(2**32 - 1),
        "name": _text,
        "kind": _number(5),
        "startTimeUnixNano": _time,
        "endTimeUnixNano": _time,
        "attributes": _key_values,
        "events": _list_of(_event),
        "status": _status,
    }
    _message(fields, value, where)
    needed = {"traceId", "spanId", "name", "kind", "startTimeUnixNano", "endTimeUnixNano"}
    assert needed <= value.keys(), f"{where} is incomplete"
    assert value["name"], f"{where} has no name"
    assert int(value["startTimeUnixNano"]) <= int(value["endTimeUnixNano"]), f"{where} ends early"


def _scope_spans(value: Any, where: str) -> None:
    scope: dict[str, Check] = {"name": _text, "version": _text}
    fields: dict[str, Check] = {
        "scope": lambda found, place: _message(scope, found, place),
        "spans": _list_of(_span),
        "schemaUrl": _text,
    }
    _message(fields, value, where)


def _resource_spans(value: Any, where: str) -> None:
    resource: dict[str, Check] = {"attributes": _key_values}
    fields: dict[str, Check] = {
        "resource": lambda found, place: _message(resource, found, place),
        "scopeSpans": _list_of(_scope_spans),
        "schemaUrl": _text,
    }
    _message(fields, value, where)
    named = [pair["key"] for pair in value["resource"]["attributes"]]
    assert "service.name" in named, f"{where} has no service.name"
