"""The routes that only report: root, version, status, tags, ps, show, and the models of `/v1`."""

from __future__ import annotations

from ollama_gateway.simulator import ask, clock
from ollama_gateway.simulator.dialect import NATIVE, OPENAI, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.gostructs import MAP
from ollama_gateway.simulator.gotypes import Shape
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.names import parse
from ollama_gateway.simulator.runners import Runner

SHOW = Shape(
    "api",
    "ShowRequest",
    {
        "model": "string",
        "name": "string",
        "system": "string",
        "template": "string",
        "verbose": "bool",
        "options": MAP,
    },
)
TEMPLATE = "{{- range .Messages }}{{ .Role }}: {{ .Content }}\n{{ end }}"
REMOTE_HOST = "https://ollama.com:443"
STUB_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": "",
    "families": None,
    "parameter_size": "",
    "quantization_level": "",
}
STATUS = {"cloud": {"disabled": True, "source": "env"}}


async def root(_library: Library, exchange: Exchange) -> None:
    """GET /."""
    await exchange.respond(200, b"Ollama is running", "text/plain; charset=utf-8")


async def version(library: Library, exchange: Exchange) -> None:
    """GET /api/version."""
    await NATIVE.answer(exchange, {"version": library.version})


async def status(_library: Library, exchange: Exchange) -> None:
    """GET /api/status."""
    await NATIVE.answer(exchange, STATUS)


async def tags(library: Library, exchange: Exchange) -> None:
    """GET /api/tags."""
    await NATIVE.answer(exchange, {"models": [_tag(model) for model in library.listed()]})


async def ps(library: Library, exchange: Exchange) -> None:
    """GET /api/ps."""
    rows = [_running(model, runner) for model, runner in library.resident()]
    await NATIVE.answer(exchange, {"models": rows})


async def show(library: Library, exchange: Exchange) -> None:
    """POST /api/show."""
    fields = ask.native_fields(exchange.seen.body, SHOW)
    text = fields.get("model") or fields.get("name") or ""
    if not text:
        raise Refusal(400, "model is required")
    missing = f"model '{ask.name_of(text).short}' not found"
    model = ask.find(library, text, missing, cloud=ask.CLOUD_DETAILS)
    await NATIVE.answer(exchange, _shown(model))


async def models(library: Library, exchange: Exchange) -> None:
    """GET /v1/models."""
    rows = [_entry(model, model.name) for model in library.listed()]
    await OPENAI.answer(exchange, {"object": "list", "data": rows or None})


async def model(library: Library, exchange: Exchange) -> None:
    """GET /v1/models/{id}."""
    text = exchange.path.rpartition("/")[2]
    missing = f"model '{ask.name_of(text).short}' not found"
    found = ask.find(library, text, missing, cloud=ask.CLOUD_DETAILS)
    await OPENAI.answer(exchange, _entry(found, text))


def _details(parent: str = "") -> dict[str, object]:
    return {
        "parent_model": parent,
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "3.2B",
        "quantization_level": "Q4_K_M",
    }


def _tag(model: Model) -> dict[str, object]:
    names: dict[str, object] = {"name": model.name, "model": model.name}
    files = {
        "modified_at": clock.moment(model.modified_at),
        "size": model.size,
        "digest": model.digest,
    }
    if model.remote:
        remote = {"remote_model": model.remote, "remote_host": REMOTE_HOST}
        return names | remote | files | {"details": STUB_DETAILS}
    lengths = {
        "context_length": model.context_length,
        "embedding_length": model.embedding_length,
    }
    details = _details(model.parent) | lengths
    return names | files | {"details": details, "capabilities": list(model.capabilities)}


def _running(model: Model, runner: Runner) -> dict[str, object]:
    return {
        "name": model.name,
        "model": model.name,
        "size": model.size,
        "digest": model.digest,
        "details": _details(),
        "expires_at": runner.expires_at(),
        "size_vram": model.size,
        "context_length": runner.options["num_ctx"],
    }


def _entry(model: Model, text: str) -> dict[str, object]:
    return {
        "id": text,
        "object": "model",
        "created": int(model.modified_at.timestamp()),
        "owned_by": parse(model.name).namespace,
    }


def _shown(model: Model) -> dict[str, object]:
    return {
        "modelfile": _modelfile(model),
        "template": TEMPLATE,
        "details": _details(model.parent),
        "model_info": _info(model),
        "tensors": [{"name": "token_embd.weight", "type": "F32", "shape": [1]}],
        "capabilities": list(model.capabilities),
        "modified_at": clock.moment(model.modified_at),
    }


def _modelfile(model: Model) -> str:
    return (
        '# Modelfile generated by "ollama show"\n'
        "# To build a new Modelfile based on this, replace FROM with:\n"
        f"# FROM {model.name}\n\n"
        f"FROM /models/blobs/sha256-{model.weights}\n"
        f'TEMPLATE "{TEMPLATE}"\n'
    )


def _info(model: Model) -> dict[str, object]:
    return {
        "general.architecture": "llama",
        "general.parameter_count": 3_212_749_888,
        "llama.attention.head_count": 32,
        "llama.attention.head_count_kv": 8,
        "llama.block_count": 28,
        "llama.context_length": model.context_length,
        "llama.embedding_length": model.embedding_length,
        "tokenizer.ggml.scores": None,
        "tokenizer.ggml.token_type": None,
        "tokenizer.ggml.tokens": None,
    }
