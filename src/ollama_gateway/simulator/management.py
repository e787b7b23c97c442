"""The routes that change the library: `pull`, `push`, `create`, `copy` and `delete`.

The registry is a list of models that the simulator was given; a push adds to it. A new model takes
its answers from the one that it is made of.
"""

from __future__ import annotations

import hashlib
from functools import partial

import attrs

from ollama_gateway.simulator import ask
from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.gotypes import Shape
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.names import InvalidName, Name, parse, plain, stored
from ollama_gateway.simulator.progress import Failure, Line, Work, moved, report, status

_NAMED = {"model": "string", "name": "string", "stream": "bool", "insecure": "bool"}
PULL = Shape("api", "PullRequest", _NAMED)
PUSH = Shape("api", "PushRequest", _NAMED)
DELETE = Shape("api", "DeleteRequest", {"model": "string", "name": "string"})
COPY = Shape("api", "CopyRequest", {"source": "string", "destination": "string"})
CREATE = Shape(
    "api",
    "CreateRequest",
    _NAMED
    | {"from": "string", "system": "string", "template": "string", "quantize": "string"}
    | {"files": "map[string]string", "adapters": "map[string]string", "remote_host": "string"},
)
OWN_LAYERS = ("template", "system", "parameters", "messages", "license")
MISSING = "pull model manifest: file does not exist"
NO_SOURCE = "neither 'from' or 'files' was specified"
STEPS = 4
"""Lines that tell of a blob under way, after its first."""


async def pull(library: Library, exchange: Exchange) -> None:
    """POST /api/pull."""
    fields = ask.native_fields(exchange.seen.body, PULL)
    name = _stored(_wanted(fields), "invalid model name")
    await report(exchange, _pulling(library, name), is_streamed=fields.get("stream", True))


async def push(library: Library, exchange: Exchange) -> None:
    """POST /api/push."""
    fields = ask.native_fields(exchange.seen.body, PUSH)
    text = _wanted(fields)
    if not text:
        raise Refusal(400, "model is required")
    await report(exchange, _pushing(library, text), is_streamed=fields.get("stream", True))


async def create(library: Library, exchange: Exchange) -> None:
    """POST /api/create."""
    fields = ask.native_fields(exchange.seen.body, CREATE)
    try:
        name = plain(_wanted(fields))
    except InvalidName as error:
        raise Refusal(400, str(error)) from None
    work = _creating(library, name.short, fields)
    await report(exchange, work, is_streamed=fields.get("stream", True))


async def copy(library: Library, exchange: Exchange) -> None:
    """POST /api/copy."""
    fields = ask.native_fields(exchange.seen.body, COPY)
    source, destination = (_plain(fields, which) for which in ("source", "destination"))
    model = library.find(source)
    if model is None:
        raise Refusal(404, f'model "{fields["source"]}" not found')
    library.add(attrs.evolve(model, name=destination.short, modified_at=library.wall_clock()))
    await exchange.respond(200)


async def delete(library: Library, exchange: Exchange) -> None:
    """DELETE /api/delete."""
    fields = ask.native_fields(exchange.seen.body, DELETE)
    text = _wanted(fields)
    if not text:
        raise Refusal(400, "model is required")
    name = _stored(text, f'name "{text}" is invalid')
    model = library.find(name)
    if model is None:
        raise Refusal(404, f"model '{text}' not found")
    library.remove(model.name)
    await exchange.respond(200)


def _wanted(fields: ask.Fields) -> str:
    return str(fields.get("model") or fields.get("name") or "")


def _stored(text: str, fault: str) -> Name:
    """Read a name that may say `:cloud`; `fault` is the text where it is none."""
    try:
        return stored(text)
    except InvalidName as error:
        is_conflict = str(error).startswith("use either")
        raise Refusal(400, str(error) if is_conflict else fault) from None


def _plain(fields: ask.Fields, which: str) -> Name:
    text = fields.get(which, "")
    try:
        return plain(text)
    except InvalidName:
        raise Refusal(400, f'{which} "{text}" is invalid') from None


def _pulling(library: Library, name: Name) -> Work:
    found = library.published(name)
    lines: tuple[Line, ...] = (status("pulling manifest"),)
    if found is None:
        return Work(lines, failure=Failure(MISSING))
    model = attrs.evolve(found, modified_at=library.wall_clock())
    steps = 0 if library.has_layers(model) else STEPS
    lines += tuple(line for layer in _layers(model) for line in _moving("pulling", *layer, steps))
    lines += (status("verifying sha256 digest"), status("writing manifest"))
    return Work(lines, partial(library.add, model))


def _pushing(library: Library, text: str) -> Work:
    lines: tuple[Line, ...] = (status("retrieving manifest"),)
    try:
        name = parse(text)
    except InvalidName as error:
        return Work(lines, failure=Failure(str(error)))
    model = library.find(name)
    if model is None:
        path = f"/models/manifests/{name.host}/{name.namespace}/{name.model}/{name.tag}"
        lines += (status("couldn't retrieve manifest"),)
        return Work(lines, failure=Failure(f"open {path}: no such file or directory"))
    lines += tuple(line for layer in _layers(model) for line in _moving("pushing", *layer, STEPS))
    lines += (status("pushing manifest"),)
    return Work(lines, partial(library.publish, model))


def _layers(model: Model) -> list[tuple[str, int]]:
    """Give digest and size of what a model is made of: its weights and its configuration."""
    small = min(model.size, 500)
    parts = (("weights", model.size - small), ("config", small))
    return [(_digest(f"{part} of {model.digest}"), size) for part, size in parts]


def _moving(verb: str, digest: str, size: int, steps: int) -> list[Line]:
    """Tell of a blob under way; one that is there already is told of once."""
    parts = range(steps + 1) if steps else [1]
    return [moved(verb, digest, size, size * part // (steps or 1)) for part in parts]


def _digest(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


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
        base, lines = library.published(source), _pulling(library, source).lines
    if base is None:
        return _pulling(library, source)
    model = attrs.evolve(base, name=short, parent=base.name, modified_at=library.wall_clock())
    return _made(library, model, lines, fields)


def _made_of_files(library: Library, short: str, fields: ask.Fields) -> Work:
    """Make a model of blobs that were uploaded; what is in them is not looked at."""
    digests = [str(digest).replace("sha256-", "sha256:") for digest in fields["files"].values()]
    for digest in digests:
        if digest not in library.blobs:
            path = f"/models/blobs/{digest.replace(':', '-')}"
            return Work(failure=Failure(f"open {path}: no such file or directory"))
    size = sum(library.blobs[digest] for digest in digests)
    model = Model(short, size=size, modified_at=library.wall_clock())
    return _made(library, model, (status("parsing GGUF"),), fields)


def _made(library: Library, model: Model, lines: tuple[Line, ...], fields: ask.Fields) -> Work:
    own = [(name, str(fields[name])) for name in OWN_LAYERS if fields.get(name)]
    kept = [f"{part} of {model.digest}" for part in ("weights", "template")]
    lines += tuple(status(f"using existing layer {_digest(part)}") for part in kept)
    lines += tuple(status(f"creating new layer {_digest(f'{name} {text}')}") for name, text in own)
    digest = _digest(f"{model.digest} {own}").removeprefix("sha256:")
    made = attrs.evolve(model, digest=digest)
    return Work((*lines, status("writing manifest")), partial(library.add, made))
