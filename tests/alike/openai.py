"""OpenAI's older API: chats, completions, embeddings, models."""

from __future__ import annotations

from typing import Any, Final

from ollama_gateway.simulator import Script
from tests.alike.case import (
    BY_BACKEND,
    EVENTS,
    JSON,
    MISSING_MODEL,
    SAY_HI,
    TEXT,
    UNAVAILABLE,
    Case,
    Metered,
    Otherwise,
    get,
    missing_model,
    post,
    reported,
)
from tests.alike.native import PICTURE, SCHEMA, TOOLS

USAGE: Final = {"include_usage": True}
URL: Final = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
LOOK: Final = [{"role": "user", "content": [{"type": "text", "text": "what is it?"}, URL]}]
FORMAT: Final = {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}}


def asked(path: str, title: str, body: dict[str, Any], fields: dict[str, Any]) -> Case:
    """A request to a route that generates; streams are events, other answers are JSON."""
    known = ("status", "record", "kind", "script", "otherwise")
    more = {name: fields.pop(name) for name in known if name in fields}
    whole = {"kind": EVENTS if fields.get("stream") else JSON, "record": reported(11, 2)}
    return post(path, title, {"model": "m1", **body, **fields}, **{**whole, **more})


def chat(title: str, **fields: Any) -> Case:
    """A chat."""
    return asked("/v1/chat/completions", title, {"messages": SAY_HI}, fields)


def completion(title: str, **fields: Any) -> Case:
    """A completion."""
    return asked("/v1/completions", title, {"prompt": "hi"}, fields)


def embeddings(title: str, **fields: Any) -> Case:
    """An embedding."""
    return asked("/v1/embeddings", title, {"input": "hi"}, {"record": reported(11, 0), **fields})


CASES: Final = (
    chat("streamed", stream=True),
    chat("streamed with usage", stream=True, stream_options=USAGE),
    chat("streamed without usage", stream=True, stream_options={"include_usage": False}),
    chat("whole"),
    chat("bounded", max_tokens=1, record=reported(11, 1)),
    chat("tools", model="tool", tools=TOOLS, stream=True, record=reported(11, 3)),
    chat("tools, whole", model="tool", tools=TOOLS, record=reported(11, 3)),
    chat("thinking", model="tool", reasoning_effort="high", stream=True, record=reported(11, 3)),
    chat("no thinking", model="tool", reasoning_effort="none", record=reported(11, 1)),
    chat("a picture", model="eyes", messages=LOOK),
    chat(
        "a picture elsewhere",
        messages=[{"role": "user", "content": [{**URL, "image_url": {"url": "https://x/y.png"}}]}],
        status=400,
        record=BY_BACKEND,
    ),
    chat("log probabilities", logprobs=True, top_logprobs=1),
    chat("log probabilities, streamed", logprobs=True, stream=True),
    chat("a schema", response_format=FORMAT),
    chat("no tools", tools=TOOLS, status=400, record=BY_BACKEND),
    chat("no messages", messages=[], status=400, record=BY_BACKEND),
    chat("messages of a wrong type", messages="hi", status=400, record=BY_BACKEND),
    chat(
        "an error in the middle",
        stream=True,
        script=Script(error_after=1),
        record=Metered("upstream_failed", "no_terminal_marker", None, 2, "counted"),
        otherwise=Otherwise(
            "Ollama ends such a stream silently; clients take it for complete",
            200,
            '"error":{',
            is_cut=True,
        ),
    ),
    chat(
        "an error before the first chunk",
        script=Script(error_after=0, error="boom"),
        status=500,
        record=Metered("upstream_failed", "status_500"),
    ),
    completion("streamed", stream=True),
    completion("streamed with usage", stream=True, stream_options=USAGE),
    completion("whole"),
    completion("bounded", max_tokens=1, record=reported(11, 1)),
    completion("several prompts", prompt=["a", "b"], status=400, record=BY_BACKEND),
    embeddings("one"),
    embeddings("several", model="vectors", input=["a", "b"], record=reported(14, 0)),
    embeddings("in base64", encoding_format="base64"),
    embeddings("in hex", encoding_format="hex", status=400, record=BY_BACKEND),
    embeddings("tokens", input=[1, 2, 3], status=400, record=BY_BACKEND),
    get("/v1/models", "all", kind=JSON),
    get("/v1/models/m1", "one", kind=JSON),
    get("/v1/models/M1:latest", "one, spelt otherwise", kind=JSON),
    get(
        f"/v1/models/{MISSING_MODEL}",
        "unknown model",
        404,
        JSON,
        otherwise=Otherwise(
            "an unknown model and a forbidden one are the same 403", 403, UNAVAILABLE
        ),
    ),
    get("/v1/models/team%2Fown:v1", "a name with an encoded slash", 404, TEXT),
    get("/v1/models/team/own:v1", "a name with a slash", 404, TEXT),
    missing_model("/v1/chat/completions", {"messages": SAY_HI}, kind=JSON),
    missing_model("/v1/completions", {"prompt": "hi"}, kind=JSON),
    missing_model("/v1/embeddings", {"input": "hi"}, kind=JSON),
)
