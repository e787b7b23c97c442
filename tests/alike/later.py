"""OpenAI's Responses and Anthropic's Messages."""

from __future__ import annotations

from typing import Any, Final

from ollama_gateway.simulator import Script
from tests.alike.case import (
    BY_BACKEND,
    JSON,
    MISSING_MODEL,
    SAY_HI,
    TEXT,
    UNAVAILABLE,
    Case,
    Metered,
    Otherwise,
    missing_model,
    post,
    reported,
)
from tests.alike.native import FUNCTION, PICTURE
from tests.alike.openai import asked

FLAT: Final = [{"type": "function", "strict": False, **FUNCTION}]
SCHEMED: Final = [{"name": "get_w", "description": "d", "input_schema": {"type": "object"}}]
SOURCE: Final = {"type": "base64", "media_type": "image/png", "data": PICTURE}
LOOK: Final = [{"role": "user", "content": [{"type": "image", "source": SOURCE}]}]
SEEN: Final = [
    {
        "role": "user",
        "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}],
    }
]
RESULT: Final = [
    *SAY_HI,
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "t1", "name": "get_w", "input": {}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "11"}]},
]


def response(title: str, **fields: Any) -> Case:
    """A request for a response."""
    return asked("/v1/responses", title, {"input": "hi"}, fields)


def message(title: str, **fields: Any) -> Case:
    """A request for a message."""
    return asked("/v1/messages", title, {"messages": SAY_HI, "max_tokens": 50}, fields)


COUNTED: Final = "Ollama has no such route, and Claude's clients ask it before every turn"
CASES: Final = (
    response("streamed", stream=True),
    response("whole"),
    response("bounded", max_output_tokens=1, record=reported(11, 1)),
    response("tools", model="tool", tools=FLAT, stream=True, record=reported(11, 3)),
    response("tools, whole", model="tool", tools=FLAT, record=reported(11, 3)),
    response("thinking", model="tool", stream=True, record=reported(11, 3)),
    response("no thinking", model="tool", reasoning={"effort": "none"}, record=reported(11, 1)),
    response("a picture", model="eyes", input=SEEN),
    response("input of a wrong type", input=5, status=400, record=BY_BACKEND),
    response("no tools", tools=FLAT, status=400, record=BY_BACKEND),
    response(
        "broken off",
        stream=True,
        script=Script(cut_after=3),
        record=Metered("upstream_failed", "connection_broken", None, 3, "counted"),
        otherwise=Otherwise(
            "a cut stream ends in an event that clients raise or show, its own end of a failure",
            200,
            "event: response.failed",
        ),
    ),
    message("streamed", stream=True),
    message("whole"),
    message("bounded", max_tokens=1, record=reported(11, 1)),
    message("tools", model="tool", tools=SCHEMED, stream=True, record=reported(11, 3)),
    message("tools, whole", model="tool", tools=SCHEMED, record=reported(11, 3)),
    message(
        "a tool's result", model="tool", tools=SCHEMED, messages=RESULT, record=reported(11, 3)
    ),
    message(
        "thinking",
        model="tool",
        thinking={"type": "enabled", "budget_tokens": 10},
        stream=True,
        record=reported(11, 3),
    ),
    message("no thinking", model="tool", thinking={"type": "disabled"}, record=reported(11, 1)),
    message("a picture", model="eyes", messages=LOOK),
    message("without a bound", max_tokens=0, status=400, record=BY_BACKEND),
    message("without messages", messages=[], status=400, record=BY_BACKEND),
    message("no tools", tools=SCHEMED, status=400, record=BY_BACKEND),
    message(
        "broken off",
        stream=True,
        script=Script(cut_after=3),
        record=Metered("upstream_failed", "connection_broken", None, 3, "counted"),
        otherwise=Otherwise(
            "a cut stream ends in an error that clients raise", 200, "event: error", is_cut=True
        ),
    ),
    missing_model("/v1/responses", {"input": "hi"}, kind=JSON),
    missing_model("/v1/messages", {"messages": SAY_HI, "max_tokens": 5}, kind=JSON),
    post(
        "/v1/messages/count_tokens",
        "counted",
        {"model": "m1", "messages": SAY_HI},
        404,
        TEXT,
        otherwise=Otherwise(COUNTED, 200, '{"input_tokens":', JSON),
    ),
    post(
        "/v1/messages/count_tokens",
        "unknown model",
        {"model": MISSING_MODEL, "messages": SAY_HI},
        404,
        TEXT,
        otherwise=Otherwise(COUNTED, 403, UNAVAILABLE, JSON),
    ),
)
