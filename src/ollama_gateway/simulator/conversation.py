"""Ollama's refusals while it converts the messages of `/v1/chat/completions`."""

from __future__ import annotations

import json
from typing import Any

from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.gotypes import strange_in_base64

FORMAT = "invalid message format"
IMAGE = "invalid image input"
BY_URL = "image URLs are not currently supported, please use base64 encoded data instead"
IMAGES = (
    "data:;base64,",
    *(f"data:image/{kind};base64," for kind in ("jpeg", "jpg", "png", "webp")),
)
_GO = {type(None): "<nil>", bool: "bool", int: "float64", float: "float64"}


def check(messages: list[dict[str, Any]]) -> None:
    """Refuse content that is neither text nor parts, and parts that cannot be converted.

    Raises:
        Refusal: 400, early.

    """
    for message in messages:
        fault = _fault(message)
        if fault:
            raise Refusal(400, fault, is_early=True)


def _fault(message: dict[str, Any]) -> str | None:
    content = message.get("content")
    if isinstance(content, list):
        for part in content:
            fault = _fault_of_part(part)
            if fault:
                return fault
    elif not isinstance(content, str) and "tool_calls" not in message:
        kind = _GO.get(type(content), "map[string]interface {}")
        return f"invalid message content type: {kind}"
    if any(not _is_object(call) for call in message.get("tool_calls", [])):
        return "invalid tool call arguments"
    return None


def _fault_of_part(part: object) -> str | None:
    if not isinstance(part, dict):
        return FORMAT
    match part.get("type"):
        case "text":
            return None if isinstance(part.get("text"), str) else FORMAT
        case "image_url":
            image = part.get("image_url")
            return fault_of_image(image.get("url") if isinstance(image, dict) else image)
        case "input_audio":
            return _fault_of_audio(part.get("input_audio"))
        case _:
            return FORMAT


def fault_of_image(url: object) -> str | None:
    """Return the fault of an image: only base64 of four kinds is accepted."""
    if not isinstance(url, str):
        return FORMAT
    if url.startswith(("http://", "https://")):
        return BY_URL
    prefix = next((prefix for prefix in IMAGES if url.startswith(prefix)), None)
    if prefix is None or strange_in_base64(url.removeprefix(prefix)) is not None:
        return IMAGE
    return None


def _fault_of_audio(audio: object) -> str | None:
    if not isinstance(audio, dict):
        return "invalid input_audio format"
    data = audio.get("data")
    if not isinstance(data, str):
        return "invalid input_audio format: missing data"
    strange = strange_in_base64(data)
    if strange is not None:
        illegal = f"illegal base64 data at input byte {strange}"
        return f"invalid input_audio base64 data: {illegal}"
    return None


def _is_object(call: dict[str, Any]) -> bool:
    """Return whether the arguments of a call are the JSON text of an object."""
    try:
        return isinstance(json.loads(call.get("function", {}).get("arguments", "")), dict)
    except (ValueError, RecursionError):
        return False
