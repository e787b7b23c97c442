"""The table of routes: method and path -> what serves it.

Paths are compared with case and without a trailing slash, as Ollama's router does; an unknown
path and a wrong method get its answers, in plain text.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

import attrs

from ollama_gateway.errors import MethodNotAllowed, NotFound
from ollama_gateway.flow.ask import Ask, Endpoint
from ollama_gateway.wire.dialects import Dialect
from ollama_gateway.wire.dialects.anthropic import AnthropicDialect
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.openai import OpenAIDialect
from ollama_gateway.wire.dialects.progress import ProgressDialect
from ollama_gateway.wire.dialects.responses import ResponsesDialect

Handler = Callable[[Ask], Awaitable[None]]

OLLAMA: Final[Dialect] = OllamaDialect()
OPENAI: Final[Dialect] = OpenAIDialect()
PROGRESS: Final[Dialect] = ProgressDialect()
RESPONSES: Final[Dialect] = ResponsesDialect()
ANTHROPIC: Final[Dialect] = AnthropicDialect()

NUM_PREDICT: Final = (("options", "num_predict"),)
"""On `/v1` Ollama ignores it as yet (a change that is open, ollama/ollama#17423, has it override
the dialect's own field); who gives it alone wishes the same."""
MAX_TOKENS: Final = (("max_tokens",), *NUM_PREDICT)
MAX_COMPLETION_TOKENS: Final = (("max_tokens",), ("max_completion_tokens",), *NUM_PREDICT)
"""Ollama ignores the second one (openai/openai.go); who gives it alone wishes the same."""
MAX_OUTPUT_TOKENS: Final = (("max_output_tokens",), *NUM_PREDICT)

_generation = partial(Endpoint, group="inference")
_embeddings = partial(Endpoint, group="embeddings")
_native = partial(
    _generation, dialect=OLLAMA, streams_by_default=True, bounds=NUM_PREDICT, loads=True
)
_openai = partial(_generation, dialect=OPENAI, streams_by_default=False, loads=True)
_searching = partial(_generation, streams_by_default=False, searches=True)

INFERENCE: Final = (
    _native("/api/chat"),
    _native("/api/generate"),
    _embeddings("/api/embed", OLLAMA, inputs="input", loads=True),
    _embeddings("/api/embeddings", OLLAMA, inputs="prompt", reports=False, loads=True),
    _openai("/v1/chat/completions", bounds=MAX_COMPLETION_TOKENS),
    _openai("/v1/completions", bounds=MAX_TOKENS),
    _embeddings("/v1/embeddings", OPENAI, inputs="input"),
    _searching("/v1/responses", RESPONSES, bounds=MAX_OUTPUT_TOKENS),
    _searching("/v1/messages", ANTHROPIC, bounds=MAX_TOKENS),
)
COUNT: Final = Endpoint("/v1/messages/count_tokens", ANTHROPIC, "inference")
SHOW: Final = Endpoint("/api/show", OLLAMA, "read")
RETRIEVE: Final = Endpoint("/v1/models", OPENAI, "read", method="GET")
MANAGE: Final = (
    Endpoint("/api/pull", PROGRESS, "manage", streams_by_default=True),
    Endpoint("/api/push", PROGRESS, "manage", streams_by_default=True),
    Endpoint("/api/create", PROGRESS, "manage", streams_by_default=True),
    Endpoint("/api/copy", OLLAMA, "manage"),
    Endpoint("/api/delete", OLLAMA, "manage", method="DELETE"),
)
BLOBS: Final = (
    Endpoint("/api/blobs", OLLAMA, "manage", method="HEAD"),
    Endpoint("/api/blobs", OLLAMA, "manage"),
)


def dialect_of(path: str) -> Dialect:
    """The dialect in which errors on a path are told."""
    if path.startswith("/v1/messages"):
        return ANTHROPIC
    if path.startswith("/v1/responses"):
        return RESPONSES
    return OPENAI if path.startswith("/v1/") else OLLAMA


@attrs.frozen
class Route:
    """What serves a method on a path."""

    endpoint: Endpoint
    handler: Handler
    parameter: str = ""


@attrs.frozen
class Routes:
    """Finds the route; `under` holds those that take one more path segment."""

    table: Mapping[str, Mapping[str, Route]]
    """By path, then by method."""
    under: Mapping[str, Mapping[str, Route]]
    """By the path before the last segment."""

    def find(self, method: str, path: str) -> Route:
        """The route; raises NotFound or MethodNotAllowed."""
        methods, parameter = self.table.get(path), ""
        if methods is None:
            parent, _, parameter = path.rpartition("/")
            methods = self.under.get(parent) if parameter else None
        if methods is None:
            raise NotFound
        if method not in methods:
            raise MethodNotAllowed(", ".join(methods))
        route = methods[method]
        return attrs.evolve(route, parameter=parameter) if parameter else route


def gateway_routes(
    serve: Handler,
    show: Handler,
    manage: Handler,
    count: Handler,
    listings: Mapping[str, Handler],
) -> Routes:
    """The public listener's routes.

    Args:
        serve: inference and embeddings.
        show: what a backend says of one model: `POST /api/show`, `GET /v1/models/{id}`.
        manage: what changes a backend's models.
        count: `POST /v1/messages/count_tokens`, from the gateway itself.
        listings: the catalog's views by path; all but `/api/ps` answer HEAD too, as in Ollama.

    """
    table = {endpoint.path: {"POST": Route(endpoint, serve)} for endpoint in INFERENCE}
    table[SHOW.path] = {"POST": Route(SHOW, show)}
    table[COUNT.path] = {"POST": Route(COUNT, count)}
    table |= {e.path: {e.method: Route(e, manage)} for e in MANAGE}
    under = {
        RETRIEVE.path: {RETRIEVE.method: Route(RETRIEVE, show)},
        BLOBS[0].path: {e.method: Route(e, manage) for e in BLOBS},
    }
    for path, handler in listings.items():
        route = Route(Endpoint(path, dialect_of(path), "read"), handler)
        table[path] = {"GET": route} if path == "/api/ps" else _get_and_head(route)
    return Routes(table, under)


def _get_and_head(route: Route) -> dict[str, Route]:
    return {"HEAD": route, "GET": route}
