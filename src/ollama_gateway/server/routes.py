"""Find what serves a method and a path.

Paths are compared with case and without a trailing slash, as Ollama's router does; an unknown
path and a wrong method get its answers, in plain text. `flow/endpoints.py` lists the endpoints.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import attrs

from ollama_gateway.errors import MethodNotAllowed, NotFound
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import (
    COUNTING,
    DESCRIPTIONS,
    INFERENCE,
    LISTINGS,
    MANAGEMENT,
    Endpoint,
)

Handler = Callable[[Ask], Awaitable[None]]


@attrs.frozen
class Route:
    """An endpoint and its handler."""

    endpoint: Endpoint
    handler: Handler
    parameter: str = ""
    """The value of the path segment that the endpoint takes."""


@attrs.frozen
class Routes:
    """The routes of one listener."""

    table: Mapping[str, Mapping[str, Route]]
    """By path, then by method."""
    under: Mapping[str, Mapping[str, Route]]
    """Those that take one more path segment: by the path before it, then by method."""
    below: Mapping[str, Mapping[str, Route]] = attrs.field(factory=dict)
    """Those that take the whole rest of the path, with its slash: by its beginning, then by method.
    """

    @classmethod
    def of(cls, served: Iterable[tuple[Endpoint, Handler]]) -> Routes:
        """Sort endpoints and their handlers into the two tables."""
        table: dict[str, dict[str, Route]] = {}
        under: dict[str, dict[str, Route]] = {}
        for endpoint, handler in served:
            paths = under if endpoint.parameter else table
            methods = paths.setdefault(endpoint.path, {})
            methods.update(dict.fromkeys(endpoint.methods, Route(endpoint, handler)))
        return cls(table, under)

    def find(self, method: str, path: str) -> Route:
        """Return the route of a request; raises NotFound or MethodNotAllowed."""
        methods, parameter = self.table.get(path), ""
        if methods is None:
            parent, _, parameter = path.rpartition("/")
            methods = self.under.get(parent) if parameter else None
        for beginning in self.below:
            if methods is None and path.startswith(f"{beginning}/"):
                methods, parameter = self.below[beginning], path.removeprefix(beginning)
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
    """Return the public listener's routes.

    Args:
        serve: inference and embeddings.
        show: the description of one model, from a backend.
        manage: changes to a backend's models.
        count: `POST /v1/messages/count_tokens`, from the gateway itself.
        listings: views of the catalog, by path.

    """
    sections = ((INFERENCE, serve), (DESCRIPTIONS, show), (COUNTING, count), (MANAGEMENT, manage))
    served = [(endpoint, handler) for section, handler in sections for endpoint in section]
    return Routes.of(served + [(endpoint, listings[endpoint.path]) for endpoint in LISTINGS])
