"""From settings to parts: the only reader of the settings, and the seam for tests.

`build` is a block: the gateway that it yields lives until the block is left. The block is also the
place of the services in the tree of `supervisor.py`: parts that must be drained and closed, and
never cancelled, are opened here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.discovery import BackendDiscovery
from ollama_gateway.backends.pausing import PauseFile, Pauses
from ollama_gateway.backends.transport import MAX_IDLE
from ollama_gateway.build_backends import Transports, build_backends
from ollama_gateway.build_listeners import admin_access, admin_listener, public_listener
from ollama_gateway.flow.answers import AnswerBudget
from ollama_gateway.flow.changing_heads import ChangingHeads
from ollama_gateway.flow.deadline import Deadlines
from ollama_gateway.flow.exchange import Exchange
from ollama_gateway.flow.hedging import Hedging, RetryBudget
from ollama_gateway.flow.race import Rules
from ollama_gateway.flow.showing import Showing
from ollama_gateway.http.listener import Listener
from ollama_gateway.keys import KeyCache, KeyStoreLocation, find_key, location_of, open_keys
from ollama_gateway.ledger.audit import AuditServices, open_audit
from ollama_gateway.ledger.log import RecordMetrics, log_record
from ollama_gateway.ledger.record import Ledger, Sink
from ollama_gateway.ledger.spent import spent_elsewhere
from ollama_gateway.limits import RedisLocation, open_limits
from ollama_gateway.limits.at_once import AtOnce
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.limits.quota import Quota
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.admin import Admin
from ollama_gateway.server.anonymous import Anonymous
from ollama_gateway.server.app import App
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.server.cors import CORS
from ollama_gateway.server.counting import Counting
from ollama_gateway.server.listings import Listings
from ollama_gateway.server.management import Management
from ollama_gateway.server.routes import Routes, gateway_routes
from ollama_gateway.settings import Settings, model
from ollama_gateway.storage.batcher import Runner, in_thread
from ollama_gateway.wire.origins import Origins

if TYPE_CHECKING:
    from ollama_gateway.backends.shared import CatalogCopier

Watcher = Callable[[], Awaitable[None]]


@attrs.frozen
class Gateway:
    """The parts of one process, put together."""

    app: App
    listener: Listener
    admin: Admin
    admin_listener: Listener
    backends: Backends
    discovery: BackendDiscovery
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
    sinks: tuple[Sink, ...] | None = None,
) -> AsyncIterator[Gateway]:
    """Build the gateway that `settings` describe, and run its services for the length of the block.

    Args:
        settings: valid settings.
        transports: replace TCP, by backend name; for tests.
        runner: runs the blocking work of the stores.
        sinks: receive finished audit records, besides the metrics; by default, the log.

    """
    metrics = Metrics()
    counted = RecordMetrics(metrics)
    if sinks is None:
        sinks = (partial(log_record, share=settings.log.requests),)
    backends = build_backends(settings, transports, metrics, most_idle=MAX_IDLE)
    discovery = BackendDiscovery(
        backends, interval=settings.discovery.interval, timeout=settings.discovery.timeout
    )
    url = settings.storage.database_url
    place = location_of(settings.storage.data_dir, url.reveal() if url else None)
    async with (
        aclosing(backends),
        open_keys(place, runner=runner) as keys,
        _open_limits(settings, metrics, runner) as limits,
        _open_audit(settings, runner, counted) as audit,
    ):
        exchange = Exchange(
            keys=keys,
            ledger=Ledger((*sinks, counted), audit.writer),
            limits=limits,
            backends=backends,
            deadlines=_deadlines(settings.race),
            rules=_rules(settings.race, metrics),
            answers=AnswerBudget(settings.server.max_answers_total),
            heads=ChangingHeads() if backends.affinity is not None else None,
            expose_backend=settings.server.expose_backend,
        )
        app = _app(settings, _routes(settings, exchange, keys, discovery, metrics), metrics)
        listener = public_listener(settings.server, app)
        copier = _copier(settings, backends)
        admin = Admin(
            backends=backends,
            metrics=metrics,
            access=admin_access(settings.server),
            keys_are_readable=lambda: _can_judge(keys, place),
            keys_are_degraded=lambda: place.survives_outages and keys.statistics().store_failing,
            limits=limits,
            copier=copier,
            audit=audit,
            hedging=exchange.rules.hedging,
            heads=exchange.heads,
            find_key=partial(find_key, place, runner=runner),
            settings_file=settings.source,
            requests_running=lambda: app.requests_running,
            connections_open=lambda: len(listener.connections),
        )
        pauses = Pauses(PauseFile(settings.storage.data_dir).read, backends)
        yield Gateway(
            app=app,
            listener=listener,
            admin=admin,
            admin_listener=admin_listener(admin.routes(), metrics),
            backends=backends,
            discovery=discovery,
            metrics=metrics,
            watchers=_watchers(discovery, copier, pauses, audit),
            copier=copier,
            pauses=pauses,
            answers=exchange.answers,
        )


def _routes(
    settings: Settings,
    exchange: Exchange,
    keys: KeyCache,
    discovery: BackendDiscovery,
    metrics: Metrics,
) -> Routes:
    """Build the handlers of the public listener, and their routes."""
    at_once = AtOnce(metrics)
    showing = Showing(attrs.evolve(exchange, ledger=Ledger(())), at_once)
    managing = Management(
        keys=keys,
        ledger=exchange.ledger,
        limits=exchange.limits,
        backends=exchange.backends,
        discovery=discovery,
        idle=settings.race.idle_timeout,
        expose_backend=settings.server.expose_backend,
    )
    return gateway_routes(
        serve=exchange.serve,
        show=showing.serve,
        manage=managing.serve,
        count=Counting(keys, exchange.backends, at_once).count,
        listings=Listings(keys, exchange.backends).handlers(),
    )


def _app(settings: Settings, routes: Routes, metrics: Metrics) -> App:
    server, key = settings.server, settings.auth.anonymous_key
    origins = Origins(server.allowed_origins)
    return App(
        routes=routes,
        bodies=BodyBudget(
            limit=server.max_body,
            total=server.max_body_total,
            containers=server.max_json_containers,
        ),
        metrics=metrics,
        cors=CORS(origins),
        anonymous=Anonymous(
            key=key.reveal() if key else None,
            networks=settings.auth.anonymous_networks,
            proxies=server.trusted_proxies,
            origins=origins,
        ),
        proxies=server.trusted_proxies,
    )


def _can_judge(keys: KeyCache, place: KeyStoreLocation) -> bool:
    """Return True if some key can be accepted: by the store, or by the cache in an outage."""
    found = keys.statistics()
    return not found.store_failing or (place.survives_outages and found.usable > 0)


def _open_limits(
    settings: Settings, metrics: Metrics, runner: Runner
) -> AbstractAsyncContextManager[Limiter]:
    limits, redis, database = settings.limits, settings.redis.url, settings.storage.database_url
    return open_limits(
        directory=settings.storage.data_dir,
        redis=RedisLocation(redis.reveal(), settings.redis.timeout) if redis else None,
        defaults=Quota(
            requests_per_minute=limits.requests_per_minute,
            concurrent_requests=limits.concurrent_requests,
            tokens_per_day=limits.tokens_per_day,
            tokens_per_month=limits.tokens_per_month,
        ),
        default_output=limits.default_output_tokens,
        metrics=metrics,
        elsewhere=partial(spent_elsewhere, database.reveal(), runner) if database else None,
        runner=runner,
    )


def _deadlines(race: model.RaceSettings) -> Deadlines:
    return Deadlines(
        queue=race.queue_timeout,
        first_chunk=race.first_chunk_timeout,
        idle=race.idle_timeout,
        total=race.total_timeout,
    )


def _rules(race: model.RaceSettings, metrics: Metrics) -> Rules:
    return Rules(
        max_attempts=race.max_attempts,
        hedging=Hedging(after=race.hedge_after, ratio=race.max_hedge_ratio),
        retries=RetryBudget(),
        metrics=metrics,
    )


def _open_audit(
    settings: Settings, runner: Runner, counted: RecordMetrics
) -> AbstractAsyncContextManager[AuditServices]:
    audit, url = settings.audit, settings.storage.database_url
    return open_audit(
        directory=settings.storage.data_dir,
        database_url=url.reveal() if url else None,
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
    discovery: BackendDiscovery, copier: CatalogCopier | None, pauses: Pauses, audit: AuditServices
) -> dict[str, Watcher]:
    watchers: dict[str, Watcher] = {
        f"discovery:{backend.name}": partial(discovery.watch, backend)
        for backend in discovery.backends.all
    }
    watchers |= {
        f"running:{backend.name}": partial(discovery.watch_running, backend)
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
