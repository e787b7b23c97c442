"""The same small request in every dialect, and readers of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from tests.support.scenario import Reply

SAY_HI: Final = [{"role": "user", "content": "hi"}]


@attrs.frozen
class Speech:
    """The request and the answers of one route."""

    path: str
    body: dict[str, Any]
    text: Callable[[Reply], str]
    """Returns the text of a stream."""
    whole: Callable[[Any], str]
    """Returns the text of a whole answer."""
    end: bytes
    """The end of a complete stream."""


def events(reply: Reply) -> Iterator[Any]:
    """Yield the JSON data of each event of a stream."""
    for event in reply.body.decode().split("\n\n"):
        data = "".join(line[6:] for line in event.split("\n") if line.startswith("data: "))
        if data and data != "[DONE]":
            yield json.loads(data)


def _chat(reply: Reply) -> str:
    chunks = (choice for event in events(reply) for choice in event["choices"])
    return "".join(choice["delta"].get("content", "") for choice in chunks)


def _completion(reply: Reply) -> str:
    return "".join(choice["text"] for event in events(reply) for choice in event["choices"])


def _responses(reply: Reply) -> str:
    wanted = "response.output_text.delta"
    return "".join(event["delta"] for event in events(reply) if event["type"] == wanted)


def _messages(reply: Reply) -> str:
    wanted = "content_block_delta"
    return "".join(event["delta"]["text"] for event in events(reply) if event["type"] == wanted)


def _message_of(answer: Any) -> str:
    (item,) = (item for item in answer["output"] if item["type"] == "message")
    return str(item["content"][0]["text"])


CHAT: Final = Speech(
    "/v1/chat/completions",
    {"model": "m1", "messages": SAY_HI},
    _chat,
    lambda answer: str(answer["choices"][0]["message"]["content"]),
    b"data: [DONE]\n\n",
)
COMPLETION: Final = Speech(
    "/v1/completions",
    {"model": "m1", "prompt": "hi"},
    _completion,
    lambda answer: str(answer["choices"][0]["text"]),
    b"data: [DONE]\n\n",
)
RESPONSES: Final = Speech(
    "/v1/responses",
    {"model": "m1", "input": "hi"},
    _responses,
    _message_of,
    b'"type":"response.completed"}\n\n',
)
MESSAGES: Final = Speech(
    "/v1/messages",
    {"model": "m1", "messages": SAY_HI, "max_tokens": 100},
    _messages,
    lambda answer: str(answer["content"][0]["text"]),
    b'data: {"type":"message_stop"}\n\n',
)
SSE: Final = (CHAT, COMPLETION, RESPONSES, MESSAGES)
