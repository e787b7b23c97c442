"""Turn ASGI into requests, and errors into HTTP answers; no other module does the latter.

Every request runs in a cancel scope: a client that leaves cancels it, a drain sets its deadline.
However it ends, the client gets one of three things: a whole answer, an error in the dialect of the
path, or, if an answer had begun, an error event and a connection that ends abnormally, so that a
cut stream never looks complete.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import attrs
import trio

from ollama_gateway import clock
from ollama_gateway.errors import (
    GatewayError,
    InternalError,
    LimitReached,
    MethodNotAllowed,
    Misdirected,
    NotFound,
    TooManyConnections,
    Unauthorized,
    Unavailable,
)
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import dialect_of
from ollama_gateway.flow.in_flight import CancelledByOperator, InFlight, RunningRequest
from ollama_gateway.http.request_stream import RequestStream
from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.reasons import Reason
from ollama_gateway.server.anonymous import Anonymous
from ollama_gateway.server.bodies import BodyBudget, BodyShare
from ollama_gateway.server.cors import CORS
from ollama_gateway.server.downstream import ASGIDownstream, Send
from ollama_gateway.server.forwarded import client_of
from ollama_gateway.server.pacer import StartPacer
from ollama_gateway.server.refusals import RefusalLog
from ollama_gateway.server.request_path import RequestPath
from ollama_gateway.server.routes import Routes
from ollama_gateway.wire.dialects import Dialect
from ollama_gateway.wire.headers import Headers, check_head, content_coding, credential
from ollama_gateway.wire.networks import Network

ERROR_EVENT_SECONDS: Final = 1.0
"""Seconds that a request has to send its error event when a drain ends it."""
PLAIN_HEADERS: Final[Headers] = [(b"content-type", b"text/plain")]
JSON_HEADERS: Final[Headers] = [(b"content-type", b"application/json; charset=utf-8")]
GIVE_UP: Final = (b"x-should-retry", b"false")
"""Makes OpenAI's and Anthropic's SDKs raise at once."""
OLLAMA_CLI: Final = b"ollama/"
"""The beginning of the user agent of Ollama's Go client, which hides the text of a 401."""
MESSAGES: Final = b"/v1/messages"

log = get_logger("app")


@attrs.frozen
class AppConfig:
    """What the settings say of an app; each request keeps the one that it began with."""

    routes: Routes
    cors: CORS = attrs.field(factory=CORS)
    anonymous: Anonymous = attrs.field(factory=Anonymous)
    proxies: Sequence[Network] = ()
    """The proxies whose `X-Forwarded-For` is trusted."""


@attrs.define(eq=False)
class App:
    """The ASGI application of a listener."""

    config: AppConfig
    """Replaced whole, for the requests that begin after that."""
    bodies: BodyBudget
    metrics: Metrics
    refusals: RefusalLog = attrs.field(factory=RefusalLog)
    _pacer: StartPacer = attrs.field(factory=StartPacer, init=False)
    in_flight: InFlight = attrs.field(factory=InFlight, init=False)
    _deadline: float = attrs.field(default=math.inf, init=False)

    @property
    def requests_running(self) -> int:
        """Return how many requests are being served."""
        return len(self.in_flight)

    def drain(self, seconds: float) -> None:
        """End all requests, later ones too, when `seconds` have passed."""
        self._deadline = clock.now() + seconds
        for request in self.in_flight:
            request.scope.deadline = self._deadline

    async def __call__(self, scope: Any, receive: RequestStream, send: Send) -> None:
        """Serve one request."""
        request_id, arrived, config = new_request_id(), clock.now(), self.config
        # A disconnect cancels nothing before this: a client that only half-closed gets an answer.
        await self._pacer.wait_to_start()
        with BodyShare(self.bodies) as share:
            downstream = ASGIDownstream(
                receive,
                send,
                share,
                scope.get("state", {}).get("send_continue"),
                _content_length(scope["headers"]),
                [
                    *_request_ids(scope["raw_path"], request_id),
                    *config.cors.headers(scope["headers"]),
                ],
                content_coding(scope["headers"]),
                self._pacer,
            )
            with trio.CancelScope(deadline=self._deadline) as request:
                running = self.in_flight.begin(request_id, request)
                try:
                    receive.on_disconnect(downstream.cancel_on_disconnect(request))
                    await self._serve(config, scope, downstream, running, arrived)
                finally:
                    self.in_flight.end(running)
            if request.cancelled_caught and not downstream.is_gone:
                with trio.move_on_after(ERROR_EVENT_SECONDS):
                    await self._fail(_cause(running), downstream, scope["path"], request_id)

    async def _serve(
        self,
        config: AppConfig,
        scope: Any,
        downstream: ASGIDownstream,
        running: RunningRequest,
        arrived: float,
    ) -> None:
        try:
            await self._route(config, scope, downstream, running, arrived)
        except GatewayError as error:
            failure = error
        except Exception:
            log.exception("request failed", request_id=running.request_id)
            failure = InternalError()
        else:
            return
        if running.cancelled_by is not None:  # that came first, for the record too
            await trio.lowlevel.checkpoint_if_cancelled()
        await self._fail(failure, downstream, scope["path"], running.request_id)

    async def _route(
        self,
        config: AppConfig,
        scope: Any,
        downstream: ASGIDownstream,
        running: RunningRequest,
        arrived: float,
    ) -> None:
        request_id = running.request_id
        headers: Headers = scope["headers"]
        client = client_of((scope["client"] or ("",))[0], headers, config.proxies)
        is_tls = scope.get("scheme") == "https"
        try:
            query: bytes = scope.get("query_string", b"")
            target = b"?".join((scope["raw_path"], query)) if query else scope["raw_path"]
            check_head(scope["method"], target, scope["http_version"], headers)
            preflight = config.cors.preflight(scope["method"], headers)
            if preflight is not None:
                await _answer_preflight(downstream, preflight)
                return
            address = RequestPath.read(scope["raw_path"].decode("ascii"))
            key = address.key
            if key is None:
                key = config.anonymous.credential(client, headers, is_tls=is_tls)
            route = config.routes.find(scope["method"], address.route)
        except GatewayError as error:
            self.refused(error, client, request_id)
            raise
        running.ask = ask = Ask(
            request_id,
            route.endpoint,
            key or credential(headers),
            headers,
            client,
            arrived,
            downstream,
            route.parameter,
            query.decode("ascii", "replace"),
            address.backend_overrides(headers),
        )
        try:
            await route.handler(ask)
        except (Misdirected, Unauthorized) as error:
            if isinstance(error, Unauthorized) and ask.credential is None:
                why = config.anonymous.obstacle(client, headers, is_tls=is_tls)
                error.reason = why or error.reason
            if isinstance(error, Unauthorized) and _is_ollama_cli(headers):
                error.status = HTTPStatus.FORBIDDEN
            self.refused(error, client, request_id)
            raise

    async def _fail(
        self, error: GatewayError, downstream: ASGIDownstream, path: str, request_id: str
    ) -> None:
        dialect = dialect_of(RequestPath.read(path).route)
        if downstream.has_started:
            if downstream.tells_errors:
                await downstream.send(dialect.error_event(error, request_id))
                if dialect.error_ends_stream:
                    await downstream.end()
            return  # the answer has no end: the connection is closed abnormally
        headers, body = error_response(error, dialect, request_id)
        await downstream.respond(error.status, headers, body)

    def refused(self, error: GatewayError, client: str, request_id: str) -> None:
        """Count and log a request that ended before its key was known."""
        self.metrics.refused(error.reason)
        self.refusals.note(error, client, request_id)

    def render_early_error(self, error: GatewayError) -> tuple[Headers, bytes]:
        """Count, log and render an error that came before any request was understood.

        See `http.protocol.EarlyErrorRenderer`.
        """
        request_id = new_request_id()
        client = error.client if isinstance(error, TooManyConnections) else ""
        self.refused(error, client, request_id)
        headers, body = error_response(error, dialect_of("/"), request_id)
        length = (b"content-length", b"%d" % len(body))
        return [*headers, length, (b"x-request-id", request_id.encode())], body


def _cause(running: RunningRequest) -> GatewayError:
    """Return the error that tells a client why its request was cancelled."""
    if running.cancelled_by is not None:
        return CancelledByOperator()
    return Unavailable("the gateway is shutting down", reason=Reason.DRAINING)


def _request_ids(target: bytes, request_id: str) -> Headers:
    """Return the headers with the request's id; Anthropic's clients read one of their own."""
    name = request_id.encode()
    ids = [(b"x-request-id", name)]
    return [*ids, (b"request-id", name)] if MESSAGES in target else ids


def _is_ollama_cli(headers: Headers) -> bool:
    return any(name == b"user-agent" and value.startswith(OLLAMA_CLI) for name, value in headers)


async def _answer_preflight(downstream: ASGIDownstream, headers: Headers) -> None:
    await downstream.start(204, headers)  # not `respond`: a 204 has no length (RFC 9110, 8.6)
    await downstream.end()


def new_request_id() -> str:
    """Return a new request id, for the response, the log line and the audit record."""
    return secrets.token_hex(16)


def error_response(error: GatewayError, dialect: Dialect, request_id: str) -> tuple[Headers, bytes]:
    """Return the headers and the one-line body of an error."""
    if isinstance(error, NotFound | MethodNotAllowed):
        allow = [(b"allow", error.allow.encode())] if isinstance(error, MethodNotAllowed) else []
        return PLAIN_HEADERS + allow, error.message.encode()
    headers = list(JSON_HEADERS)
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
    if isinstance(error, LimitReached):
        headers += error.headers
    if error.is_final:
        headers.append(GIVE_UP)
    if error.reason is Reason.BAD_REQUEST_HEAD:
        headers.append((b"connection", b"close"))  # the following bytes may be no request
    return headers, dialect.error_body(error, request_id)


def _content_length(headers: Headers) -> int | None:
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value[:20])
    return None
