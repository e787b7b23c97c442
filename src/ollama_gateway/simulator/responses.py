"""`/v1/responses`: numbered events, or one object.

An answer is a list of items: a reasoning, tool calls, a message. Only the last event has usage; a
failure in the middle is silent, as in Ollama, and so is a missing end: only `response.completed`
shows that an answer is complete. Ollama builds the objects of a stream from maps, so their keys are
sorted; those of a whole answer are in the order of a struct.
"""

from __future__ import annotations

from ollama_gateway.simulator import ask, items, prompts, values
from ollama_gateway.simulator.answers import said
from ollama_gateway.simulator.dialect import RESPONSES, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import Job, run
from ollama_gateway.simulator.gojson import verbatim
from ollama_gateway.simulator.gotypes import BadBody, Shape
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


def _items(fields: ask.Fields) -> object:
    """Return the contents of a request; refuse whatever cannot be read or converted."""
    try:
        return items.read(fields.get("input", ""))
    except BadBody as error:
        raise Refusal(400, str(error), is_early=True) from None


async def responses(library: Library, exchange: Exchange) -> None:
    """POST /v1/responses."""
    fields = ask.openai_fields(exchange.seen.body, SHAPE)
    spoken = _items(fields)
    fields["think"] = think(fields.get("reasoning", {}).get("effort"))
    text = fields.get("model", "")
    if not text:
        raise Refusal(400, "model is required")
    model = ask.runnable(library, text, f"model '{text}' not found")
    ask.check_abilities(model, text, fields, "chat")
    response = Response(text, fields, verbatim(exchange.seen.body, "tools") or [])
    is_streamed = fields.get("stream", False)
    if not spoken and not fields.get("instructions"):
        async with library.use(model, None):
            pass
        await _loaded(exchange, response, is_streamed=is_streamed)
        return
    prompt = prompts.of_fields(model, fields, "instructions", "input", "tools")
    limit = values.limit_of(fields.get("max_output_tokens"))
    job = Job(model, said(model, fields), prompt, limit, is_streamed, fault=_fault(fields))
    await run(library, exchange, RESPONSES, job, response)


def _fault(fields: ask.Fields) -> Refusal | None:
    """Return the fault of the requested format, after the model is loaded."""
    form = fields.get("text", {}).get("format", {})
    return values.fault_of_format(form.get("schema") if form.get("type") == "json_schema" else None)


async def _loaded(exchange: Exchange, response: Response, *, is_streamed: bool) -> None:
    """Answer an empty request: the model is loaded, nothing else happens."""
    if not is_streamed:
        await RESPONSES.answer(exchange, response.whole([], None))
        return
    RESPONSES.start(exchange)
    *records, last = response.done(None)
    for record in records:
        await exchange.chunk(record)
    await exchange.finish(last)
