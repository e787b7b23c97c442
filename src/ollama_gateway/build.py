"""From settings to parts: the only reader of the settings, and the seam for tests.

`build` is a block: what it yields lives until the block is left. It is also the keepers' place in
the tree (see `supervisor.py`): what must be closed and drained, never cancelled, is opened here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.discovery import Discovery
from ollama_gateway.backends.pausing import PauseFile, Pauses
from ollama_gateway.backends.transport import MOST_IDLE
from ollama_gateway.build_backends import Transports, build_backends
from ollama_gateway.certificates import Certificate
from ollama_gateway.flow.answers import AnswerBudget
from ollama_gateway.flow.exchange import Deadlines, Exchange
from ollama_gateway.flow.hedging import Hedging, RetryBudget
from ollama_gateway.flow.race import Rules
from ollama_gateway.flow.showing import Showing
from ollama_gateway.http.crowd import Crowd
from ollama_gateway.http.listener import Listener
from ollama_gateway.http.open_files import connections_that_fit
from ollama_gateway.keys import KeyCache, Place, find_key, open_keys, place_of
from ollama_gateway.ledger.audit import Audit, open_audit
from ollama_gateway.ledger.log import RowMetrics, log_row
from ollama_gateway.ledger.record import Ledger, Sink
from ollama_gateway.ledger.spent import spent_elsewhere
from ollama_gateway.limits import open_limits
from ollama_gateway.limits.at_once import AtOnce
from ollama_gateway.limits.leases import Limits
from ollama_gateway.limits.quota import Quota
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.admin import Admin
from ollama_gateway.server.anonymous import Anonymous
from ollama_gateway.server.app import App
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.server.cors import CORS
from ollama_gateway.server.counting import Counting
from ollama_gateway.server.gate import Gate
from ollama_gateway.server.listings import Listings
from ollama_gateway.server.management import Management
from ollama_gateway.server.routes import gateway_routes
from ollama_gateway.settings.model import RaceSettings, ServerSettings, Settings
from ollama_gateway.storage.batcher import Runner, in_thread
from ollama_gateway.wire.origins import Origins

if TYPE_CHECKING:
    from ollama_gateway.backends.shared import CatalogCopier

ADMIN_CONNECTIONS = 64
ADMIN_SETTINGS = ("none; the admin listener has 64", "none; 16 of the admin listener's 64")
ADMIN_BODIES = 1024 * 1024

Watcher = Callable[[], Awaitable[None]]


@attrs.frozen
class Gateway:
    """The parts of one process, put together."""

    app: App
    listener: Listener
    admin: Admin
    admin_listener: Listener
    backends: Backends
    discovery: Discovery
    metrics: Metrics
    watchers: Mapping[str, Watcher]
    copier: CatalogCopier | None
    pauses: Pauses
    answers: AnswerBudget


@asynccontextmanager
async def build(
    settings: Settings,
    *,
    transports: Transports | None = None,
    runner: Runner = in_thread,
    sinks: tuple[Sink, ...] = (log_row,),
) -> AsyncIterator[Gateway]:
    """The gateway that `settings` describe, with its keepers running.

    Args:
        settings: valid settings.
        transports: by backend name, in place of TCP; for tests.
        runner: where the stores' blocking work runs.
        sinks: what becomes of finished rows, besides the metrics.

    """
    metrics = Metrics()
    counted = RowMetrics(metrics)
    backends = build_backends(settings, transports, metrics, most_idle=MOST_IDLE)
    discovery = Discovery(backends, settings.discovery.interval, settings.discovery.timeout)
    url = settings.storage.database_url
    place = place_of(settings.storage.data_dir, url.reveal() if url else None)
    async with (
        aclosing(backends),
        open_keys(place, runner=runner) as keys,
        _open_limits(settings, metrics, runner) as limits,
        _open_audit(settings, runner, counted) as audit,
    ):
        serving = Exchange(
            keys,
            Ledger((*sinks, counted), audit.trail),
            limits,
            backends,
            _deadlines(settings.race),
            _rules(settings.race, metrics),
            AnswerBudget(settings.server.max_answers_total),
            settings.server.expose_backend,
        )
        at_once = AtOnce(metrics)
        showing = Showing(attrs.evolve(serving, ledger=Ledger(())), at_once)
        managing = Management(
            keys,
            serving.ledger,
            limits,
            backends,
            discovery,
            settings.race.idle_timeout,
            settings.server.expose_backend,
        )
        server = settings.server
        origins = Origins(settings.server.allowed_origins)
        app = App(
            gateway_routes(
                serving.serve,
                showing.serve,
                managing.serve,
                Counting(keys, backends, at_once).count,
                Listings(keys, backends).handlers(),
            ),
            BodyBudget(server.max_body, server.max_body_total, server.max_json_containers),
            metrics,
            cors=CORS(origins),
            anonymous=_anonymous(settings, origins),
            proxies=settings.server.trusted_proxies,
        )
        room = connections_that_fit(server.max_connections)
        listener = Listener(
            app,
            app.refusal,
            room,
            certificate=_certificate(server),
            is_shared=server.processes > 1,
            crowd=_crowd(server, room),
        )
        admin = Admin(
            backends,
            metrics,
            admin_gate(server),
            lambda: _can_judge(keys, place),
            lambda: place.survives_outages and keys.statistics().store_failing,
            limits,
            audit,
            serving.rules.hedging,
            partial(find_key, place, runner=runner),
            lambda: app.requests_running,
            lambda: len(listener.connections),
        )
        admin_app = App(admin.routes(), BodyBudget(ADMIN_BODIES, ADMIN_BODIES), metrics)
        copier = _copier(settings, backends)
        pauses = Pauses(PauseFile(settings.storage.data_dir).read, backends)
        yield Gateway(
            app,
            listener,
            admin,
            Listener(admin_app, admin_app.refusal, ADMIN_CONNECTIONS, settings=ADMIN_SETTINGS),
            backends,
            discovery,
            metrics,
            _watchers(discovery, copier, pauses, audit),
            copier,
            pauses,
            serving.answers,
        )


def _anonymous(settings: Settings, origins: Origins) -> Anonymous:
    key = settings.auth.anonymous_key
    return Anonymous(
        key.reveal() if key else None,
        settings.auth.anonymous_networks,
        settings.server.trusted_proxies,
        origins,
    )


def admin_gate(server: ServerSettings) -> Gate:
    """Who may ask the admin listener of these settings."""
    token, hosts = server.admin_token, (server.admin_bind.host, *server.admin_hosts)
    return Gate.of(token.reveal() if token else None, hosts)


def _crowd(server: ServerSettings, room: int) -> Crowd:
    usual = Crowd.of(room)
    most = server.max_connections_per_address or usual.most
    return Crowd(most, (*usual.exempt, *server.trusted_proxies))


def _certificate(server: ServerSettings) -> Certificate | None:
    if server.tls_cert is None or server.tls_key is None:
        return None
    return Certificate(server.tls_cert, server.tls_key)


def _can_judge(keys: KeyCache, place: Place) -> bool:
    """Whether somebody can be let in: by the store, or in its outage as somebody known."""
    found = keys.statistics()
    return not found.store_failing or (place.survives_outages and found.usable > 0)


def _open_limits(
    settings: Settings, metrics: Metrics, runner: Runner
) -> AbstractAsyncContextManager[Limits]:
    limits, url, place = settings.limits, settings.redis.url, settings.storage.database_url
    quota = Quota(
        limits.requests_per_minute,
        limits.concurrent_requests,
        limits.tokens_per_day,
        limits.tokens_per_month,
    )
    return open_limits(
        settings.storage.data_dir,
        url.reveal() if url else None,
        quota,
        limits.default_output_tokens,
        metrics,
        elsewhere=partial(spent_elsewhere, place.reveal(), runner) if place else None,
        runner=runner,
    )


def _deadlines(race: RaceSettings) -> Deadlines:
    return Deadlines(
        race.queue_timeout, race.first_chunk_timeout, race.idle_timeout, race.total_timeout
    )


def _rules(race: RaceSettings, metrics: Metrics) -> Rules:
    hedging = Hedging(race.hedge_after, race.max_hedge_ratio)
    return Rules(race.max_attempts, hedging, RetryBudget(), metrics)


def _open_audit(
    settings: Settings, runner: Runner, counted: RowMetrics
) -> AbstractAsyncContextManager[Audit]:
    audit, url = settings.audit, settings.storage.database_url
    return open_audit(
        settings.storage.data_dir,
        url.reveal() if url else None,
        is_strict=audit.mode == "strict",
        key=audit.chain_key.reveal().encode() if audit.chain_key else b"",
        keep=audit.keep,
        runner=runner,
        note_killed=counted.killed,
    )


def _copier(settings: Settings, backends: Backends) -> CatalogCopier | None:
    if settings.redis.url is None:
        return None
    from ollama_gateway.backends.shared import (  # noqa: PLC0415 - redis only where configured
        CatalogCopier,
        SharedCatalog,
    )

    return CatalogCopier(SharedCatalog(settings.redis.url.reveal()), backends)


def _watchers(
    discovery: Discovery, copier: CatalogCopier | None, pauses: Pauses, audit: Audit
) -> dict[str, Watcher]:
    watchers: dict[str, Watcher] = {
        f"discovery:{backend.name}": partial(discovery.watch, backend)
        for backend in discovery.backends.all
    }
    watchers["pauses"] = pauses.watch
    watchers["audit"] = audit.upkeep.watch
    if audit.flusher is not None:
        watchers["flusher"] = audit.flusher.watch
    if audit.partitions is not None:
        watchers["partitions"] = audit.partitions.watch
    if copier is not None:
        watchers["catalog"] = copier.watch
    return watchers
