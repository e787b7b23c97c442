"""The `input` of `/v1/responses`: a text, or a list of items, each of a type that Ollama knows."""

from __future__ import annotations

import json
from typing import Any

from ollama_gateway.simulator.conversation import fault_of_image
from ollama_gateway.simulator.gotypes import NOT_AN_OBJECT, BadBody, Place, fit, kind_of

ITEMS = {
    "message": "openai.ResponsesInputMessage",
    "function_call": "openai.ResponsesFunctionCall",
    "function_call_output": "openai.ResponsesFunctionCallOutput",
    "reasoning": "openai.ResponsesReasoningInput",
    "web_search_call": "openai.ResponsesWebSearchCall",
}
CONTENTS = ("input_text", "input_image", "output_text", "input_file")
RAW = "[]json.RawMessage"


def read(value: Any) -> str | list[dict[str, Any]]:
    """Return the text or the items, converted as far as a conversion can fail.

    Raises:
        BadBody: with Ollama's text.

    """
    if isinstance(value, str):
        return value
    rows = _rows("input", value)
    read_rows = [_at("input", place, _item, row) for place, row in enumerate(rows)]
    for row in read_rows:
        _convert(row)
    return read_rows


def _rows(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        go = f"json: cannot unmarshal {kind_of(value)} into Go value of type {RAW}"
        raise BadBody(f"{name} must be a string or array: {go}")
    return value


def _at(name: str, place: int, read_one: Any, value: Any) -> Any:
    """Read one of several; a refusal names its position."""
    try:
        return read_one(value)
    except BadBody as error:
        raise BadBody(f"{name}[{place}]: {error}") from None


def _item(value: Any) -> dict[str, Any]:
    peeked = fit("openai.ResponsesItem", value)
    kind = peeked.get("type") or ("message" if peeked.get("role") else "")
    if not kind:
        raise BadBody("input item missing required 'type' field")
    if kind not in ITEMS:
        raise BadBody(f'unknown input item type: "{kind}"')
    item: dict[str, Any] = fit(ITEMS[kind], value) | {"type": kind}
    for name in ("content", "output"):
        if name in item and not isinstance(item[name], str) and kind in _WITH[name]:
            rows = _rows(name, item[name])
            item[name] = [_at(name, place, _part, row) for place, row in enumerate(rows)]
    return item


_WITH = {"content": ("message",), "output": ("function_call_output",)}


def _part(value: Any) -> dict[str, Any]:
    part: dict[str, Any] = fit("openai.ResponsesContent", value, Place())
    kind = part.get("type", "")
    if kind not in CONTENTS:
        raise BadBody(f"unknown content type: {kind}")
    return part


def _convert(item: dict[str, Any]) -> None:
    """Refuse the images, files and arguments that Ollama cannot turn into a chat."""
    if item["type"] == "function_call":
        _check_arguments(item.get("arguments", ""))
    for name, kinds in _WITH.items():
        parts = item.get(name) if item["type"] in kinds else None
        for part in parts if isinstance(parts, list) else []:
            fault = _fault(part)
            if fault:
                raise BadBody(fault)


def _fault(part: dict[str, Any]) -> str | None:
    if part["type"] == "input_file":
        return "file inputs are not currently supported"
    if part["type"] == "input_image" and part.get("image_url"):
        return fault_of_image(part["image_url"])
    return None


def _check_arguments(text: str) -> None:
    try:
        is_object = not text or isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise BadBody(f"failed to parse function call arguments: {NOT_AN_OBJECT}")
