"""The table of routes, and the router's own answers before a handler is reached.

The order is Ollama's: a path that is not clean is redirected, then one with a superfluous slash at
its end; then the origin is judged, for every path and method; then come 404, 405, and last the
handler. Another dialect is a file of handlers and its lines in this table.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Awaitable, Callable
from urllib.parse import quote

import attrs

from ollama_gateway.simulator import (
    anthropic,
    blobs,
    cloud,
    completions,
    embeddings,
    listings,
    making,
    management,
    native,
    openai,
    responses,
)
from ollama_gateway.simulator.dialect import ANTHROPIC, NATIVE, OPENAI, RESPONSES, Dialect
from ollama_gateway.simulator.exchange import UPLOADS, Exchange
from ollama_gateway.simulator.library import Library

Handler = Callable[[Library, Exchange], Awaitable[None]]

ORIGINS = [
    *(
        f"{scheme}://{host}{port}"
        for scheme in ("http", "https")
        for host in ("localhost", "127.0.0.1", "0.0.0.0")  # noqa: S104 - not bound to, compared
        for port in ("", ":*")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
]
SAFE = "/:@!$&'()*+,;=~"
PREFLIGHT = [
    (
        "Access-Control-Allow-Headers",
        (
            "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta,"
            "X-Stainless-Arch,X-Stainless-Async,X-Stainless-Custom-Poll-Interval,"
            "X-Stainless-Helper-Method,X-Stainless-Lang,X-Stainless-Os,X-Stainless-Package-Version,"
            "X-Stainless-Poll-Helper,X-Stainless-Retry-Count,X-Stainless-Runtime,"
            "X-Stainless-Runtime-Version,X-Stainless-Timeout"
        ),
    ),
    ("Access-Control-Allow-Methods", "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
    ("Access-Control-Max-Age", "43200"),
]


@attrs.frozen
class Route:
    """One path: its methods as the `Allow` header lists them, and its handlers.

    Args:
        is_inference: it runs a model: it counts as in flight, and scripts without a path match it.
        can_stream: whether `stream` has a meaning on it.

    """

    methods: tuple[str, ...]
    dialect: Dialect
    handler: Handler
    is_inference: bool = False
    can_stream: bool = False


def _read(handler: Handler, dialect: Dialect = NATIVE, *, head: bool = False) -> Route:
    return Route(("HEAD", "GET") if head else ("GET",), dialect, handler)


def _run(handler: Handler, dialect: Dialect = NATIVE, *, can_stream: bool = True) -> Route:
    return Route(("POST",), dialect, handler, is_inference=True, can_stream=can_stream)


def _work(handler: Handler) -> Route:
    return Route(("POST",), NATIVE, handler, can_stream=True)


ROUTES = {
    "/": _read(listings.root, head=True),
    "/api/version": _read(listings.version, head=True),
    "/api/status": _read(listings.status),
    "/api/tags": _read(listings.tags, head=True),
    "/api/ps": _read(listings.ps),
    "/api/me": Route(("POST",), NATIVE, cloud.me),
    "/api/experimental/model-recommendations": _read(cloud.recommendations),
    "/api/experimental/web_search": Route(("POST",), NATIVE, cloud.search),
    "/api/pull": _work(management.pull),
    "/api/push": _work(management.push),
    "/api/create": _work(making.create),
    "/api/copy": Route(("POST",), NATIVE, management.copy),
    "/api/delete": Route(("DELETE",), NATIVE, management.delete),
    "/api/show": Route(("POST",), NATIVE, listings.show),
    "/api/chat": _run(native.chat),
    "/api/generate": _run(native.generate),
    "/api/embed": _run(embeddings.embed, can_stream=False),
    "/api/embeddings": _run(embeddings.embeddings, can_stream=False),
    "/v1/chat/completions": _run(openai.chat, OPENAI),
    "/v1/completions": _run(completions.completions, OPENAI),
    "/v1/responses": _run(responses.responses, RESPONSES),
    "/v1/messages": _run(anthropic.messages, ANTHROPIC),
    "/v1/embeddings": _run(embeddings.openai_embeddings, OPENAI, can_stream=False),
    "/v1/models": _read(listings.models, OPENAI),
}
MODEL = _read(listings.model, OPENAI)
BLOB = Route(("HEAD", "POST"), NATIVE, blobs.blob)
PATTERNS = {
    re.compile(r"/v1/models/[^/]+"): MODEL,
    re.compile(rf"{UPLOADS}[^/]+"): BLOB,
}


def match(path: str) -> Route | None:
    """Return the route of a path, for any method."""
    if route := ROUTES.get(path):
        return route
    fitting = (route for pattern, route in PATTERNS.items() if pattern.fullmatch(path))
    return next(fitting, None)


async def reach(exchange: Exchange) -> Route | None:
    """Return the route of a request; None if the router has answered it itself."""
    if target := _redirect(exchange):
        await _move(exchange, *target)
        return None
    route = match(exchange.path)
    if not await _admit_origin(exchange, route):
        return None
    if route is None:
        await exchange.respond(404, b"404 page not found", "text/plain")
        return None
    if exchange.method not in route.methods:
        exchange.extra.append(("Allow", ", ".join(route.methods)))
        await exchange.respond(405, b"405 method not allowed", "text/plain")
        return None
    return route


def _redirect(exchange: Exchange) -> tuple[int, str] | None:
    """Return status and path of the redirect for a path."""
    path = exchange.path
    clean = posixpath.normpath("/" + path.lstrip("/"))
    if path.endswith("/") and clean != "/":
        clean += "/"
    if clean != path:
        return 301, clean
    route = match(path.rstrip("/")) if path != "/" and path.endswith("/") else None
    if route and exchange.method in route.methods:
        return (301 if exchange.method == "GET" else 307), path.rstrip("/")
    return None


async def _move(exchange: Exchange, status: int, path: str) -> None:
    location = quote(path, safe=SAFE) + (f"?{exchange.query}" if exchange.query else "")
    exchange.extra.append(("Location", location))
    if exchange.method != "GET":
        await exchange.respond(status)
        return
    body = f'<a href="{location}">Moved Permanently</a>.\n\n'.encode("latin-1")
    await exchange.respond(status, body, "text/html; charset=utf-8")


async def _admit_origin(exchange: Exchange, route: Route | None) -> bool:
    """Judge the `Origin`; return False if it was refused."""
    origin = exchange.seen.header("origin")
    host = exchange.seen.header("host")
    if not origin or origin in (f"http://{host}", f"https://{host}"):
        return True
    if exchange.method == "OPTIONS" and route:
        exchange.extra.append(("Allow", ", ".join(route.methods)))
    if not any(fnmatch.fnmatchcase(origin, pattern) for pattern in ORIGINS):
        await exchange.respond(403)
        return False
    exchange.extra += [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
    if exchange.method == "OPTIONS":
        exchange.extra += PREFLIGHT
        await exchange.respond(204)
        return False
    return True
