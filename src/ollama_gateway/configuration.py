"""All that a reload replaces: built beside what runs, then put in force in one step.

`Parts` live as long as the gateway. A `Configuration` is what one state of the settings makes of
them. `configure` builds it, may fail, and changes nothing. `put_in_force` is a plain function: no
request sees half of a change, and a request that has begun keeps the exchange, with its deadlines
and rules, that it began with. What counts something lives on and only gets other bounds: backends,
hedging, memory for bodies and answers, connections.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs

from ollama_gateway.backends.affinity import Affinity
from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.discovery import BackendDiscovery
from ollama_gateway.backends.touching import Touches
from ollama_gateway.backends.transport import Transport
from ollama_gateway.build_backends import Transports, load_policies, rebuild_backends
from ollama_gateway.build_listeners import admin_access, certificate_of, connection_counts
from ollama_gateway.certificates import RenewedContext
from ollama_gateway.flow.answers import AnswerBudget
from ollama_gateway.flow.changing_heads import ChangingHeads
from ollama_gateway.flow.deadline import Deadlines
from ollama_gateway.flow.exchange import Exchange
from ollama_gateway.flow.hedging import Hedging, RetryBudget
from ollama_gateway.flow.race import Rules
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.flow.showing import Showing
from ollama_gateway.http.connection_counts import ConnectionCounts
from ollama_gateway.http.listener import Listener
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.ledger.audit import AuditServices
from ollama_gateway.ledger.record import Ledger, Sink
from ollama_gateway.limits.at_once import AtOnce
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.limits.quota import Quota
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.admin_access import AdminAccess
from ollama_gateway.server.anonymous import Anonymous
from ollama_gateway.server.app import App, AppConfig
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.server.cors import CORS
from ollama_gateway.server.counting import Counting
from ollama_gateway.server.listings import Listings
from ollama_gateway.server.management import Management
from ollama_gateway.server.routes import Routes, gateway_routes
from ollama_gateway.settings import Settings, model
from ollama_gateway.wire.origins import Origins


@attrs.frozen
class Parts:
    """The parts of a gateway that outlive a reload."""

    metrics: Metrics
    make_sinks: Callable[[Settings], Sequence[Sink]]
    """Makes the receivers of finished audit records."""
    keys: KeyCache
    limits: Limiter
    audit: AuditServices
    backends: Backends
    discovery: BackendDiscovery
    hedging: Hedging
    bodies: BodyBudget
    answers: AnswerBudget
    transports: Transports | None = None
    """Replace TCP, by backend name; for tests."""
    touches: Touches = attrs.field(factory=Touches)
    retries: RetryBudget = attrs.field(factory=RetryBudget)
    affinity: Affinity = attrs.field(factory=Affinity)
    heads: ChangingHeads = attrs.field(factory=ChangingHeads)
    at_once: AtOnce = attrs.field()

    @at_once.default
    def _default_at_once(self) -> AtOnce:
        return AtOnce(self.metrics)


@attrs.frozen
class Configuration:
    """What one state of the settings makes of the parts."""

    settings: Settings
    exchange: Exchange
    app: AppConfig
    """Of the listener for clients."""
    certificate: RenewedContext | None
    connections: ConnectionCounts
    access: AdminAccess
    backends: Sequence[Backend]
    """New ones; in place of each that stays, one that lends it its settings."""


def configure(settings: Settings, parts: Parts, before: Settings | None = None) -> Configuration:
    """Build what the settings say; blocks while it reads files. Raises TLSFilesBroken.

    Args:
        settings: valid settings.
        parts: are not changed.
        before: the settings in force; None if these are the first.

    """
    exchange = _exchange(settings, parts)
    return Configuration(
        settings=settings,
        exchange=exchange,
        app=_app_config(settings, _routes(settings, exchange, parts)),
        certificate=certificate_of(settings.server),
        connections=connection_counts(settings.server),
        access=attrs.evolve(
            admin_access(settings.server), is_behind_parent=settings.server.processes > 1
        ),
        backends=(
            parts.backends.all
            if before is None
            else rebuild_backends(parts.backends, before, settings, parts.transports)
        ),
    )


def put_in_force(
    configuration: Configuration, parts: Parts, app: App, listener: Listener
) -> list[Transport]:
    """Use a configuration from now on; return the transports that it has replaced."""
    settings = configuration.settings
    app.config = configuration.app
    listener.certificate = configuration.certificate
    listener.connection_counts.limit = configuration.connections.limit
    listener.connection_counts.exempt = configuration.connections.exempt
    server, race, limits = settings.server, settings.race, settings.limits
    discovery = settings.discovery
    bodies, answers, hedging = parts.bodies, parts.answers, parts.hedging
    bodies.limit, bodies.total = server.max_body, server.max_body_total
    bodies.containers, answers.total = server.max_json_containers, server.max_answers_total
    hedging.after, hedging.ratio = race.hedge_after, race.max_hedge_ratio
    parts.limits.defaults = default_quota(limits)
    parts.limits.default_output = limits.default_output_tokens
    parts.limits.store.allow(settings.redis.timeout)
    parts.audit.writer.become(is_strict=settings.audit.mode == "strict")
    parts.audit.keep_for(settings.audit.keep)
    use_affinity(settings.affinity, parts)
    parts.discovery.interval, parts.discovery.timeout = discovery.interval, discovery.timeout
    parts.backends.hide(settings.aliases.hidden)
    return _replace_backends(configuration.backends, parts.backends)


def new_backends(configuration: Configuration, parts: Parts) -> list[Backend]:
    """Return the backends that the configuration adds to those in force."""
    known = {(backend.name, backend.url) for backend in parts.backends.all}
    return [
        backend for backend in configuration.backends if (backend.name, backend.url) not in known
    ]


def _replace_backends(built: Sequence[Backend], backends: Backends) -> list[Transport]:
    """Use these backends; return the transports that those which stay do not use any more."""
    known = {(backend.name, backend.url): backend for backend in backends.all}
    chosen, left = [], []
    for backend in built:
        running = known.get((backend.name, backend.url), backend)
        if running is not backend:
            if running.transport is not backend.transport:
                left.append(running.transport)
            running.take_settings_of(backend)
        chosen.append(running)
    backends.replace(chosen)
    return left


def use_affinity(settings: model.AffinitySettings, parts: Parts) -> None:
    """Let conversations return to their backends, or not; the bindings are kept."""
    parts.affinity.become(settings.idle, settings.capacity)
    parts.backends.affinity = parts.affinity if settings.enabled else None


def default_quota(limits: model.LimitSettings) -> Quota:
    """Return the limits of keys that set none."""
    return Quota(
        requests_per_minute=limits.requests_per_minute,
        concurrent_requests=limits.concurrent_requests,
        tokens_per_day=limits.tokens_per_day,
        tokens_per_month=limits.tokens_per_month,
    )


def _exchange(settings: Settings, parts: Parts) -> Exchange:
    race = settings.race
    return Exchange(
        keys=parts.keys,
        ledger=Ledger(parts.make_sinks(settings), parts.audit.writer),
        limits=parts.limits,
        backends=parts.backends,
        names=Resolver(parts.backends, settings.aliases),
        deadlines=Deadlines(
            queue=race.queue_timeout,
            first_chunk=race.first_chunk_timeout,
            idle=race.idle_timeout,
            total=race.total_timeout,
            ping=math.inf if race.ping_after == "off" else race.ping_after,
        ),
        rules=Rules(
            max_attempts=race.max_attempts,
            hedging=parts.hedging,
            retries=parts.retries,
            metrics=parts.metrics,
        ),
        answers=parts.answers,
        policies=load_policies(settings),
        touches=parts.touches,
        heads=parts.heads if settings.affinity.enabled else None,
        expose_backend=settings.server.expose_backend,
    )


def _routes(settings: Settings, exchange: Exchange, parts: Parts) -> Routes:
    """Build the handlers of the public listener, and their routes."""
    keys, names = exchange.keys, exchange.names
    showing = Showing(attrs.evolve(exchange, ledger=Ledger(())), parts.at_once)
    managing = Management(
        keys=keys,
        ledger=exchange.ledger,
        limits=exchange.limits,
        backends=exchange.backends,
        names=names,
        discovery=parts.discovery,
        idle=settings.race.idle_timeout,
        expose_backend=settings.server.expose_backend,
    )
    return gateway_routes(
        serve=exchange.serve,
        show=showing.serve,
        manage=managing.serve,
        count=Counting(keys, names, parts.at_once).count,
        listings=Listings(keys, names).handlers(),
    )


def _app_config(settings: Settings, routes: Routes) -> AppConfig:
    server, key = settings.server, settings.auth.anonymous_key
    origins = Origins(server.allowed_origins)
    return AppConfig(
        routes=routes,
        cors=CORS(origins),
        anonymous=Anonymous(
            key=key.reveal() if key else None,
            networks=settings.auth.anonymous_networks,
            proxies=server.trusted_proxies,
            origins=origins,
        ),
        proxies=server.trusted_proxies,
    )
