"""`/v1/responses`: numbered events, or one object.

An answer is a row of items: a reasoning, calls of tools, a message. Usage is in the last event
only; a failure in the middle is silence, as it is in Ollama, and so is the lack of an end: only
`response.completed` says that an answer is whole. Ollama builds the objects of a stream from maps,
so their keys are sorted; those of an answer in one piece are in the order of a struct.
"""

from __future__ import annotations

from typing import Any

from ollama_gateway.simulator import ask, prompts
from ollama_gateway.simulator.answers import said
from ollama_gateway.simulator.dialect import RESPONSES, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import Job, run
from ollama_gateway.simulator.gojson import Shape, verbatim
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.openai import think
from ollama_gateway.simulator.response_events import Response

SHAPE = Shape(
    "openai",
    "ResponsesRequest",
    {
        "model": "string",
        "background": "bool",
        "include": "[]string",
        "instructions": "string",
        "max_output_tokens": "int",
        "reasoning": "openai.ResponsesReasoning",
        "temperature": "float64",
        "text": "openai.ResponsesText",
        "top_p": "float64",
        "truncation": "string",
        "tools": "[]openai.ResponsesTool",
        "stream": "bool",
    },
)
ITEMS = (
    "message",
    "function_call",
    "function_call_output",
    "reasoning",
    "web_search_call",
)
CONTENTS = ("input_text", "input_image", "output_text", "input_file")


async def responses(library: Library, exchange: Exchange) -> None:
    """POST /v1/responses."""
    fields = ask.openai_fields(exchange.seen.body, SHAPE)
    _check_input(fields.get("input", ""))
    fields["think"] = think(fields.get("reasoning", {}).get("effort"))
    text = fields.get("model", "")
    if not text:
        raise Refusal(400, "model is required")
    model = ask.runnable(library, text, f"model '{text}' not found")
    ask.check_abilities(model, text, fields, "chat")
    response = Response(text, fields, verbatim(exchange.seen.body, "tools") or [])
    is_streamed = fields.get("stream", False)
    if not fields.get("input") and not fields.get("instructions"):
        async with library.use(model, None):
            pass
        await _loaded(exchange, response, is_streamed=is_streamed)
        return
    prompt = prompts.of_fields(model, fields, "instructions", "input", "tools")
    limit = ask.limit_of(fields.get("max_output_tokens"))
    job = Job(model, said(model, fields), prompt, limit, is_streamed)
    await run(library, exchange, RESPONSES, job, response)


async def _loaded(exchange: Exchange, response: Response, *, is_streamed: bool) -> None:
    """Answer a request that has nothing to say: the model is loaded, and that is all."""
    if not is_streamed:
        await RESPONSES.answer(exchange, response.whole([], None))
        return
    RESPONSES.start(exchange)
    *records, last = response.done(None)
    for record in records:
        await exchange.chunk(record)
    await exchange.finish(last)


def _check_input(value: object) -> None:
    """Refuse what is neither a text nor a list of items that Ollama knows."""
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        kind = {bool: "bool", int: "number", float: "number", dict: "object"}[type(value)]
        go = f"json: cannot unmarshal {kind} into Go value of type []json.RawMessage"
        raise Refusal(400, f"input must be a string or array: {go}", is_early=True)
    for place, item in enumerate(value):
        fault = _fault(item) if isinstance(item, dict) else None
        if fault:
            raise Refusal(400, f"input[{place}]: {fault}", is_early=True)


def _fault(item: dict[str, Any]) -> str | None:
    kind = item.get("type") or ("message" if item.get("role") else "")
    if not kind:
        return "input item missing required 'type' field"
    if kind not in ITEMS:
        return f'unknown input item type: "{kind}"'
    content = item.get("content")
    for place, part in enumerate(content if isinstance(content, list) else []):
        kind = part.get("type", "") if isinstance(part, dict) else ""
        if kind not in CONTENTS:
            return f"content[{place}]: unknown content type: {kind}"
    return None
