"""The objects and events of `/v1/responses`; `responses.py` explains them."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any

import attrs

from ollama_gateway.simulator.answers import Piece, ToolCall, joined
from ollama_gateway.simulator.ask import Fields
from ollama_gateway.simulator.generation import Done
from ollama_gateway.simulator.gojson import as_map, dumps

IDS = 999_999
Item = dict[str, object]


def _number() -> int:
    return random.randrange(IDS)


@attrs.define
class Response:
    """Writes one answer: its events one by one, or the whole.

    Args:
        model: as sent.
        fields: the request, whose settings are echoed.
        tools: those of the request, echoed with the case of their keys.

    """

    model: str
    fields: Fields
    tools: list[Any]
    id: str = attrs.field(factory=lambda: f"resp_{_number()}")
    message_id: str = attrs.field(factory=lambda: f"msg_{_number()}")
    _sequence: int = 0
    _items: list[Item] = attrs.field(factory=list)
    _reasoning_id: str | None = None
    _thought: str = ""
    _text: str | None = None
    _has_called: bool = False

    def piece(self, piece: Piece) -> list[bytes]:
        """Write the events for a token."""
        records = self._begin()
        if piece.thinking:
            records += self._think(piece.thinking)
        if piece.calls:
            records += self._end_reasoning()
            self._has_called = True
        for call in piece.calls:
            records += self._call(call)
        if piece.text and not self._has_called:
            records += self._say(piece.text)
        return records

    def done(self, done: Done | None) -> list[bytes]:
        """Write the end, which has the usage."""
        records = self._begin() + self._end_reasoning() + self._end_message()
        response = self._object("completed", self._items, usage(done))
        response["completed_at"] = int(time.time())
        return [*records, self._event("response.completed", response=response)]

    def failed(self, message: str) -> list[bytes]:  # noqa: ARG002 - Ollama loses it
        """Write nothing, as Ollama does."""
        return []

    def whole(self, pieces: list[Piece], done: Done | None) -> dict[str, object]:
        """Return the whole answer as one object."""
        answer = joined(pieces)
        output = self._reasoned(answer) + self._calls(answer)
        if not answer.calls:
            message = {"id": self.message_id, "type": "message", "status": "completed"}
            output.append(message | {"role": "assistant", "content": [_part(answer.text)]})
        response = self._object("completed", output, usage(done))
        response["completed_at"] = response["created_at"]
        response["reasoning"] = self._reasoning({}) or None
        response["tools"] = [_tool(tool) for tool in self.tools]
        return response

    def _begin(self) -> list[bytes]:
        if self._sequence:
            return []
        kinds = ("response.created", "response.in_progress")
        return [self._event(kind, response=self._object("in_progress", [], None)) for kind in kinds]

    def _think(self, text: str) -> list[bytes]:
        records = []
        if self._reasoning_id is None:
            self._reasoning_id = f"rs_{_number()}"
            item = {"id": self._reasoning_id, "type": "reasoning", "summary": []}
            records = [self._added(item)]
        self._thought += text
        return [*records, self._summary("delta", delta=text)]

    def _end_reasoning(self) -> list[bytes]:
        if self._reasoning_id is None:
            return []
        records = [self._summary("done", text=self._thought)]
        records.append(self._item_done(_thoughts(self._reasoning_id, self._thought)))
        self._reasoning_id = None
        return records

    def _summary(self, kind: str, **text: str) -> bytes:
        place = {"item_id": self._reasoning_id, "output_index": self._index, "summary_index": 0}
        return self._event(f"response.reasoning_summary_text.{kind}", **place, **text)

    def _say(self, text: str) -> list[bytes]:
        records = self._end_reasoning()
        if self._text is None:
            self._text = ""
            records.append(self._added(self._message("in_progress", [])))
            records.append(self._content("content_part.added", part=_part("")))
        self._text += text
        return [*records, self._content("output_text.delta", delta=text, logprobs=[])]

    def _end_message(self) -> list[bytes]:
        if self._text is None:
            return []
        part = _part(self._text)
        return [
            self._content("output_text.done", text=self._text, logprobs=[]),
            self._content("content_part.done", part=part),
            self._item_done(self._message("completed", [part])),
        ]

    def _message(self, status: str, content: list[Item]) -> Item:
        message = {"id": self.message_id, "type": "message", "status": status}
        return message | {"role": "assistant", "content": content}

    def _content(self, kind: str, **fields: object) -> bytes:
        place = {"item_id": self.message_id, "output_index": self._index, "content_index": 0}
        return self._event(f"response.{kind}", **place, **fields)

    def _call(self, call: ToolCall) -> list[bytes]:
        item = _called(f"fc_{_number()}_{call.index}", call)
        place = {"item_id": item["id"], "output_index": self._index}
        kind = "response.function_call_arguments"
        return [
            self._added(item | {"status": "in_progress", "arguments": ""}),
            self._event(f"{kind}.delta", **place, delta=call.arguments),
            self._event(f"{kind}.done", **place, arguments=call.arguments),
            self._item_done(item),
        ]

    @property
    def _index(self) -> int:
        return len(self._items)

    def _added(self, item: Mapping[str, object]) -> bytes:
        return self._event("response.output_item.added", output_index=self._index, item=item)

    def _item_done(self, item: Item) -> bytes:
        record = self._event("response.output_item.done", output_index=self._index, item=item)
        self._items.append(item)
        return record

    def _event(self, kind: str, **fields: object) -> bytes:
        data = {"type": kind, "sequence_number": self._sequence} | fields
        self._sequence += 1
        return f"event: {kind}\ndata: ".encode() + dumps(data, is_sorted=True) + b"\n\n"

    def _reasoned(self, answer: Piece) -> list[Item]:
        return [_thoughts(f"rs_{self.id}", answer.thinking)] if answer.thinking else []

    def _calls(self, answer: Piece) -> list[Item]:
        return [_called(f"fc_{self.id}_{call.index}", call) for call in answer.calls]

    def _reasoning(self, absent: dict[str, object]) -> dict[str, object]:
        asked = self.fields.get("reasoning", {})
        given = {name: asked[name] for name in ("effort", "summary") if asked.get(name)}
        return absent | given if given else {}

    def _object(self, status: str, output: list[Item], tokens: Item | None) -> dict[str, object]:
        """Return the response object, in the order of Ollama's struct."""
        fields = self.fields
        form = (fields.get("text") or {}).get("format") or {"type": "text"}
        return {
            "id": self.id,
            "object": "response",
            "created_at": int(time.time()),
            "completed_at": None,
            "status": status,
            "incomplete_details": None,
            "model": self.model,
            "previous_response_id": None,
            "instructions": fields.get("instructions") or None,
            "output": output,
            "error": None,
            "tools": [_tool(tool) for tool in self.tools],
            "tool_choice": "auto",
            "truncation": fields.get("truncation", "disabled"),
            "parallel_tool_calls": True,
            "text": {"format": form},
            "top_p": fields.get("top_p", 1),
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "top_logprobs": 0,
            "temperature": fields.get("temperature", 1),
            "reasoning": self._reasoning({"effort": None, "summary": None}) or None,
            "usage": tokens,
            "max_output_tokens": fields.get("max_output_tokens"),
            "max_tool_calls": None,
            "store": False,
            "background": fields.get("background", False),
            "service_tier": "default",
            "metadata": {},
            "safety_identifier": None,
            "prompt_cache_key": None,
        }


def usage(done: Done | None) -> Item:
    """Count tokens as Responses names them; zeros if the runner sent no end."""
    prompt, said = (done.prompt_tokens, done.tokens) if done else (0, 0)
    return {
        "input_tokens": prompt,
        "output_tokens": said,
        "total_tokens": prompt + said,
        "input_tokens_details": {"cached_tokens": (done and done.cached) or 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    }


def _part(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _thoughts(identity: str, text: str) -> Item:
    summary = [{"type": "summary_text", "text": text}]
    item: Item = {"id": identity, "type": "reasoning", "summary": summary}
    return item | {"encrypted_content": text}


def _called(identity: str, call: ToolCall) -> Item:
    item: Item = {"id": identity, "type": "function_call", "status": "completed"}
    return item | {"call_id": call.id, "name": call.name, "arguments": call.arguments}


def _tool(tool: Any) -> Item:
    """Echo a tool: each of Ollama's fields, null if it was not given."""
    given = tool if isinstance(tool, dict) else {}
    head = {name: given.get(name, "") for name in ("type", "name")}
    rest = {name: given.get(name) for name in ("description", "strict", "parameters")}
    return head | rest | {"parameters": as_map(given.get("parameters"))}
