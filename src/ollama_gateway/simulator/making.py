"""`/api/create`: make a model from another one, or from uploaded files.

It takes its answers and its runner from its source; the content of uploaded files is ignored.
"""

from __future__ import annotations

from functools import partial

import attrs

from ollama_gateway.simulator import ask, values
from ollama_gateway.simulator.blobs import DIGEST
from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.gostructs import MAP
from ollama_gateway.simulator.gotypes import Shape
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.management import NAMED, digest_of, pulling, wanted
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.names import InvalidName, parse, plain
from ollama_gateway.simulator.progress import Failure, Line, Work, report, status

_TEXTS = ("from", "system", "template", "quantize", "quantization", "remote_host")
_FILES = ("files", "adapters", "draft_files")
CREATE = Shape(
    "api",
    "CreateRequest",
    NAMED
    | dict.fromkeys(_TEXTS, "string")
    | dict.fromkeys(_FILES, "map[string]string")
    | {"parameters": MAP, "messages": "[]api.Message"},
)
OWN_LAYERS = ("template", "system", "parameters", "messages", "license")
NO_SOURCE = "neither 'from' or 'files' was specified"
NO_DIGEST = "invalid digest format"
QUANTIZED = ("F32", "F16", "Q4_K_S", "Q4_K_M", "Q8_0")
TAKEN = (*QUANTIZED, "Q4_K", "BF16")


async def create(library: Library, exchange: Exchange) -> None:
    """POST /api/create."""
    fields = ask.native_fields(exchange.seen.body, CREATE)
    _check_files(fields)
    try:
        name = plain(wanted(fields))
    except InvalidName as error:
        raise Refusal(400, str(error)) from None
    work = _creating(library, name.short, fields)
    await report(exchange, work, is_streamed=fields.get("stream", True))


def _check_files(fields: ask.Fields) -> None:
    """Refuse paths that lead elsewhere, and files without a digest."""
    for which in _FILES:
        for path, digest in fields.get(which, {}).items():
            if which != "adapters" and not _is_relative(path):
                raise Refusal(400, "file path must be relative")
            if not digest:
                raise Refusal(400, NO_DIGEST)


def _is_relative(path: str) -> bool:
    return path == "." or not any(part in ("", ".", "..") for part in path.split("/"))


def _creating(library: Library, short: str, fields: ask.Fields) -> Work:
    if fields.get("from"):
        return _made_of_model(library, short, fields)
    if "files" in fields:
        return _made_of_files(library, short, fields)
    return Work(failure=Failure(NO_SOURCE, 400))


def _made_of_model(library: Library, short: str, fields: ask.Fields) -> Work:
    try:
        source = parse(fields["from"])
    except InvalidName:
        return Work(failure=Failure("invalid model name", 400))
    if source.cloud:
        remote = source.model + ":" + source.tag.removesuffix("-cloud")
        now = library.wall_clock()
        stub = Model(short, remote=remote, capabilities=(), size=195, modified_at=now)
        return Work((status("writing manifest"),), partial(library.add, stub))
    base = library.find(source)
    lines: tuple[Line, ...] = ()
    if base is None:
        base, lines = library.published(source), pulling(library, source).lines
    if base is None:
        return pulling(library, source)
    model = attrs.evolve(base, name=short, parent=base.name, modified_at=library.wall_clock())
    return _made(library, model, lines, fields)


def _made_of_files(library: Library, short: str, fields: ask.Fields) -> Work:
    """Make a model from uploaded blobs; their content is ignored."""
    digests = [digest.replace("sha256-", "sha256:") for digest in fields["files"].values()]
    if not all(map(DIGEST.fullmatch, digests)):
        return Work(failure=Failure(NO_DIGEST))
    for digest in digests:
        if digest not in library.blobs:
            path = f"/models/blobs/{digest.replace(':', '-')}"
            return Work(failure=Failure(f"open {path}: no such file or directory"))
    size = sum(library.blobs[digest] for digest in digests)
    weights = digests[0] if len(digests) == 1 else digest_of(" ".join(digests))
    hexed = weights.removeprefix("sha256:").lower()
    model = Model(short, size=size, modified_at=library.wall_clock(), weights=hexed)
    return _made(library, model, (status("parsing GGUF"),), fields)


def _made(library: Library, model: Model, lines: tuple[Line, ...], fields: ask.Fields) -> Work:
    failure = _fault(fields)
    if failure:
        return Work(lines, failure=failure)
    own = [(name, str(fields[name])) for name in OWN_LAYERS if fields.get(name)]
    kept = (f"sha256:{model.weights}", digest_of(f"template of {model.digest}"))
    lines += tuple(status(f"using existing layer {digest}") for digest in kept)
    lines += tuple(
        status(f"creating new layer {digest_of(f'{name} {text}')}") for name, text in own
    )
    digest = digest_of(f"{model.digest} {own}").removeprefix("sha256:")
    made = attrs.evolve(model, digest=digest)
    return Work((*lines, status("writing manifest")), partial(library.add, made))


def _fault(fields: ask.Fields) -> Failure | None:
    """Return the fault of a new model's settings."""
    quantized = (fields.get("quantize") or fields.get("quantization") or "").upper()
    if quantized and quantized not in TAKEN:
        known = ", ".join(QUANTIZED)
        return Failure(f"unsupported quantization type {quantized} - supported types are {known}")
    broken = values.fault_of_template(fields.get("template", ""))
    return Failure(f"template error: {broken}", 400) if broken else None
