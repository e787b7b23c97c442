"""The routes that move models: `pull`, `push`, `copy` and `delete`.

The registry is a list of models given to the simulator; a push adds to it.
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

NAMED = {"model": "string", "name": "string", "stream": "bool", "insecure": "bool"}
PULL = Shape("api", "PullRequest", NAMED)
PUSH = Shape("api", "PushRequest", NAMED)
DELETE = Shape("api", "DeleteRequest", {"model": "string", "name": "string"})
COPY = Shape("api", "CopyRequest", {"source": "string", "destination": "string"})
MISSING = "pull model manifest: file does not exist"
STEPS = 4
"""Progress lines of a blob, after its first."""
SMALL = 500
"""Bytes of a blob that arrives at once."""


async def pull(library: Library, exchange: Exchange) -> None:
    """POST /api/pull."""
    fields = ask.native_fields(exchange.seen.body, PULL)
    name = _stored(wanted(fields), "invalid model name")
    await report(exchange, pulling(library, name), is_streamed=fields.get("stream", True))


async def push(library: Library, exchange: Exchange) -> None:
    """POST /api/push."""
    fields = ask.native_fields(exchange.seen.body, PUSH)
    text = wanted(fields)
    if not text:
        raise Refusal(400, "model is required")
    await report(exchange, _pushing(library, text), is_streamed=fields.get("stream", True))


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
    text = wanted(fields)
    if not text:
        raise Refusal(400, "model is required")
    name = _stored(text, f'name "{text}" is invalid')
    model = library.find(name)
    if model is None:
        raise Refusal(404, f"model '{text}' not found")
    library.remove(model.name)
    await exchange.respond(200)


def wanted(fields: ask.Fields) -> str:
    """Return the name in a request, under its new key or its old one."""
    return str(fields.get("model") or fields.get("name") or "")


def _stored(text: str, fault: str) -> Name:
    """Read a name that may say `:cloud`; `fault` is the text if it is none."""
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


def pulling(library: Library, name: Name) -> Work:
    """Return the lines and the effect of a pull of that name."""
    found = library.published(name)
    lines: tuple[Line, ...] = (status("pulling manifest"),)
    if found is None:
        return Work(lines, failure=Failure(MISSING))
    model = attrs.evolve(found, modified_at=library.wall_clock())
    is_here = library.has_layers(model)
    lines += tuple(line for layer in _layers(model) for line in _pulled(*layer, is_here=is_here))
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
    lines += tuple(line for layer in _layers(model) for line in _pushed(*layer))
    lines += (status("pushing manifest"),)
    return Work(lines, partial(library.publish, model))


def _layers(model: Model) -> list[tuple[str, int]]:
    """Return digest and size of a model's files: its weights and its configuration."""
    small = min(model.size, SMALL)
    weights = (f"sha256:{model.weights}", model.size - small)
    return [weights, (digest_of(f"config of {model.digest}"), small)]


def _pulled(digest: str, size: int, *, is_here: bool) -> list[Line]:
    """Yield the progress of a blob once per tick of a clock, so its end may not be reported.

    A blob that is here already is reported once, as complete; a small one arrives before the clock
    has ticked twice.
    """
    if is_here:
        return [moved("pulling", digest, size, size)]
    ticks = range(STEPS + 1) if size > SMALL else [0]
    return [moved("pulling", digest, size, size * tick // (STEPS + 1)) for tick in ticks]


def _pushed(digest: str, size: int) -> list[Line]:
    """Yield the progress of a blob that is sent, up to its end."""
    ticks = range(STEPS + 1)
    return [moved("pushing", digest, size, size * tick // STEPS) for tick in ticks]


def digest_of(text: str) -> str:
    """Compute the digest of a blob without content."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
