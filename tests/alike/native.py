"""Ollama's own API: chats, generations, embeddings, listings."""

from __future__ import annotations

from typing import Any, Final

from ollama_gateway.simulator import Script
from tests.alike.case import (
    BY_BACKEND,
    JSON,
    LINES,
    SAY_HI,
    TEXT,
    UNMETERED,
    Case,
    Metered,
    Otherwise,
    counted,
    get,
    missing_model,
    post,
    reported,
)

PICTURE: Final = "iVBORw0KGgo="
FUNCTION: Final = {"name": "get_w", "description": "d", "parameters": {"type": "object"}}
TOOLS: Final = [{"type": "function", "function": FUNCTION}]
LOOK: Final = [{"role": "user", "content": "what is it?", "images": [PICTURE]}]
SCHEMA: Final = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
RESULT: Final = [
    *SAY_HI,
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"function": {"name": "get_w", "arguments": {}}}],
    },
    {"role": "tool", "tool_name": "get_w", "content": "11 degrees"},
]


def chat(
    title: str, status: int = 200, kind: str = LINES, model: str = "m1", **fields: Any
) -> Case:
    """A chat, streamed unless the fields say otherwise."""
    record = fields.pop("record", reported(11, 2))
    more = {name: fields.pop(name) for name in ("otherwise", "script") if name in fields}
    body = {"model": model, "messages": SAY_HI, **fields}
    return post("/api/chat", title, body, status, kind, record=record, **more)


def generate(title: str, status: int = 200, **fields: Any) -> Case:
    """A generation that is not streamed."""
    kind = fields.pop("kind", JSON)
    record = fields.pop("record", reported(11, 2))
    body = {"model": "m1", "prompt": "hi", "stream": False, **fields}
    return post("/api/generate", title, body, status, kind, record=record)


CASES: Final = (
    chat("streamed"),
    chat("whole", kind=JSON, stream=False),
    chat("bounded", options={"num_predict": 1}, record=reported(11, 1)),
    chat("tools", model="tool", tools=TOOLS, record=reported(11, 3)),
    chat(
        "tools, whole", model="tool", tools=TOOLS, stream=False, kind=JSON, record=reported(11, 3)
    ),
    chat("a tool's result", model="tool", tools=TOOLS, messages=RESULT, record=reported(11, 3)),
    chat("thinking", model="tool", think=True, record=reported(11, 3)),
    chat("no thinking", model="tool", think=False, record=reported(11, 1)),
    chat("a picture", model="eyes", messages=LOOK),
    chat("log probabilities", logprobs=True, top_logprobs=2),
    chat("a schema", format=SCHEMA, stream=False, kind=JSON),
    chat("json", format="json"),
    chat("load", messages=[], kind=JSON, record=UNMETERED),
    chat("unload", messages=[], keep_alive=0, kind=JSON, record=UNMETERED),
    chat("a picture that it cannot see", messages=LOOK),
    chat("no tools", 400, JSON, tools=TOOLS, record=BY_BACKEND),
    chat("no thinking there", 400, JSON, think=True, record=BY_BACKEND),
    chat("wrong option", 500, JSON, options={"num_ctx": "big"}, record=BY_BACKEND),
    chat("options of a wrong type", 400, JSON, options=5, record=BY_BACKEND),
    chat("messages of a wrong type", 400, JSON, messages="hi", record=BY_BACKEND),
    chat("unknown field", nonsense={"a": [1]}),
    generate("streamed", stream=True, kind=LINES),
    generate("whole"),
    generate("raw", raw=True),
    generate("with a context", context=[1, 2, 3]),
    generate("thinking", model="tool", think=True, record=reported(11, 3)),
    generate("a picture", model="eyes", images=[PICTURE]),
    generate("a suffix", 400, suffix="b", record=BY_BACKEND),
    generate("raw with a template", 400, raw=True, system="s", record=BY_BACKEND),
    generate("load", prompt="", record=UNMETERED),
    generate("load for ever", prompt="", keep_alive=-1, record=UNMETERED),
    get("/api/ps", "with one loaded"),
    generate("unload", prompt="", keep_alive=0, record=UNMETERED),
    post("/api/embed", "one", {"model": "m1", "input": "hi"}, record=reported(11, 0)),
    post(
        "/api/embed", "several", {"model": "vectors", "input": ["a", "b"]}, record=reported(14, 0)
    ),
    post("/api/embed", "none", {"model": "vectors", "input": []}, record=UNMETERED),
    post("/api/embed", "a wrong type", {"model": "m1", "input": 5}, 400, record=BY_BACKEND),
    post("/api/embeddings", "one", {"model": "m1", "prompt": "x" * 40}, record=counted(10, 0)),
    post("/api/show", "by model", {"model": "m1"}),
    post("/api/show", "by name", {"name": "team/own:v1"}),
    post("/api/show", "verbose", {"model": "m1", "verbose": True}),
    post("/api/show", "a user's system", {"model": "m1", "system": "you"}),
    get("/api/tags", "all"),
    get("/api/version", "it"),
    get("/", "that it runs", kind=TEXT),
    missing_model("/api/chat", {"messages": SAY_HI}),
    missing_model("/api/generate", {"prompt": "hi"}),
    missing_model("/api/embed", {"input": "hi"}),
    missing_model("/api/embeddings", {"prompt": "hi"}),
    missing_model("/api/show", {}, record=None),
    chat(
        "broken off",
        script=Script(cut_after=1),
        record=Metered("upstream_failed", "connection_broken", None, 1, "counted"),
        otherwise=Otherwise(
            "a cut stream ends in an error that clients raise", 200, "broke off", is_cut=True
        ),
    ),
    chat(
        "an error in the middle",
        script=Script(error_after=1, error="boom"),
        record=Metered("upstream_failed", "error_in_stream", None, 1, "counted"),
        otherwise=Otherwise(
            "a failed answer never ends as if it were complete",
            200,
            '{"error":"boom"}',
            is_cut=True,
        ),
    ),
    chat(
        "an error before the first chunk",
        500,
        JSON,
        script=Script(error_after=0, error="boom"),
        record=Metered("upstream_failed", "status_500"),
    ),
    chat(
        "a full backend",
        503,
        JSON,
        script=Script(is_busy=True),
        record=Metered("upstream_failed", "status_503"),
    ),
)
