"""`/api/embed`, `/api/embeddings` and `/v1/embeddings`.

A vector depends on the model's name and the text alone, so equal inputs have equal vectors on every
server. Its length is 1, except on `/api/embeddings`, which never normalised.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct

import anyio
import attrs

from ollama_gateway.simulator import ask, prompts, values
from ollama_gateway.simulator.clock import nanoseconds
from ollama_gateway.simulator.dialect import NATIVE, OPENAI, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.generation import FAILURE, RunnerFailed
from ollama_gateway.simulator.gostructs import MAP
from ollama_gateway.simulator.gotypes import Shape
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model

EMBED = Shape(
    "api",
    "EmbedRequest",
    {
        "model": "string",
        "truncate": "bool",
        "dimensions": "int",
        "options": MAP,
        "keep_alive": "api.Duration",
    },
)
EMBEDDING = Shape(
    "api",
    "EmbeddingRequest",
    {"model": "string", "prompt": "string", "options": MAP, "keep_alive": "api.Duration"},
)
OPENAI_EMBED = Shape(
    "openai",
    "EmbedRequest",
    {"model": "string", "dimensions": "int", "encoding_format": "string"},
)
LEGACY_LENGTH = 5.0


def vector(model: Model, text: str, dimensions: int = 0) -> list[float]:
    """Compute the vector of a text: length 1, cut to `dimensions` if that is positive."""
    size = model.vector_length
    seed = hashlib.shake_256(f"{model.name}\0{text}".encode("utf-8", "replace")).digest(4 * size)
    raw = [word / 2**31 for word in struct.unpack(f"<{size}i", seed)]
    return _scaled(raw[:dimensions] if 0 < dimensions < size else raw, 1.0)


def _scaled(figures: list[float], length: float) -> list[float]:
    norm = math.sqrt(sum(figure * figure for figure in figures)) or 1.0
    return [_single(figure / norm * length) for figure in figures]


def _single(figure: float) -> float:
    """Round to a 32-bit float, written as briefly as possible."""
    single = struct.unpack("<f", struct.pack("<f", figure))[0]
    for digits in range(6, 10):
        short = float(f"{single:.{digits}g}")
        if struct.pack("<f", short) == struct.pack("<f", single):
            return short
    return float(single)


async def embed(library: Library, exchange: Exchange) -> None:
    """POST /api/embed."""
    fields = ask.native_fields(exchange.seen.body, EMBED)
    texts = _texts(fields.get("input"))
    text = fields.get("model", "")
    run = await _run(library, exchange, fields, texts)
    answer: dict[str, object] = {"model": text, "embeddings": _vectors(run.model, texts, fields)}
    if texts:
        answer["total_duration"] = nanoseconds(anyio.current_time() - run.start)
        answer["load_duration"] = nanoseconds(run.load)
        answer["prompt_eval_count"] = run.prompt
    await NATIVE.answer(exchange, answer)


async def embeddings(library: Library, exchange: Exchange) -> None:
    """POST /api/embeddings."""
    fields = ask.native_fields(exchange.seen.body, EMBEDDING)
    if not fields.get("model"):
        raise Refusal(400, "model is required")
    prompt = fields.get("prompt", "")
    run = await _run(library, exchange, fields, [prompt] if prompt else [], exact=True)
    figures = _scaled(vector(run.model, prompt), LEGACY_LENGTH) if prompt else []
    await NATIVE.answer(exchange, {"embedding": figures})


async def openai_embeddings(library: Library, exchange: Exchange) -> None:
    """POST /v1/embeddings."""
    fields = ask.openai_fields(exchange.seen.body, OPENAI_EMBED)
    encoding = fields.get("encoding_format") or "float"
    _check_encoding(encoding)
    if fields.get("input", []) == []:
        raise Refusal(400, "invalid input", is_early=True)
    texts = _texts([""] if fields["input"] == "" else fields["input"])
    for name in ("options", "keep_alive", "truncate"):
        fields.pop(name, None)  # this field is not in the request
    run = await _run(library, exchange, fields, texts)
    rows = [
        {"object": "embedding", "embedding": _encoded(figures, encoding), "index": index}
        for index, figures in enumerate(_vectors(run.model, texts, fields))
    ]
    usage = {"prompt_tokens": run.prompt, "total_tokens": run.prompt}
    answer = {"object": "list", "data": rows, "model": fields["model"], "usage": usage}
    await OPENAI.answer(exchange, answer)


@attrs.frozen
class _Run:
    """A model that has read its texts.

    Args:
        start: time of `anyio.current_time()`.
        load: the seconds that loading took.
        prompt: tokens of all texts.

    """

    model: Model
    start: float
    load: float
    prompt: int


async def _run(
    library: Library,
    exchange: Exchange,
    fields: ask.Fields,
    texts: list[str],
    *,
    exact: bool = False,
) -> _Run:
    """Find and load the model, and let it read the texts."""
    text = fields.get("model", "")
    if not text:
        raise Refusal(404, "model '' not found")
    missing = f'model "{text}" not found, try pulling it first'
    model = ask.runnable(library, text, missing, exact=exact)
    values.check_options(fields)
    start = anyio.current_time()
    prompt = prompts.of_texts(model, texts)
    async with library.use(model, ask.keep_alive(fields)) as loaded:
        library.prompt_tokens += prompt
        _check_length(model, fields, texts)
        await anyio.sleep(model.first_token)
    if exchange.script.error_after is not None:
        raise RunnerFailed(500, exchange.script.error or FAILURE)
    return _Run(model, start, loaded.seconds, prompt)


def _check_length(model: Model, fields: ask.Fields, texts: list[str]) -> None:
    """Refuse a text that is too long for the model if it may not be cut."""
    asked = values.limit_of(fields.get("options", {}).get("num_ctx"))
    room = min(asked, model.context_length) if asked > 0 else model.context_length
    if fields.get("truncate") is False and any(prompts.tokens_of(text) > room for text in texts):
        raise Refusal(400, "the input length exceeds the context length")


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Refusal(400, "invalid input type")
    return value


def _vectors(model: Model, texts: list[str], fields: ask.Fields) -> list[list[float]]:
    return [vector(model, text, fields.get("dimensions", 0)) for text in texts]


def _check_encoding(encoding: str) -> None:
    if encoding.lower() not in ("float", "base64"):
        message = (
            f"Invalid value for 'encoding_format' = {encoding}."
            " Supported values: ['float', 'base64']."
        )
        raise Refusal(400, message, is_early=True)


def _encoded(figures: list[float], encoding: str) -> object:
    if encoding.lower() == "float":
        return figures
    return base64.b64encode(struct.pack(f"<{len(figures)}f", *figures)).decode()
