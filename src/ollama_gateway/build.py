"""From settings to a running gateway: with `configuration.py`, the only reader of the settings.

`build` is a block: the gateway that it yields lives until the block is left. The block is also the
place of the services in the tree of `supervisor.py`: parts that must be drained and closed, and
never cancelled, are opened here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs

from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.discovery import BackendDiscovery
from ollama_gateway.backends.pausing import PauseFile, Pauses
from ollama_gateway.backends.transport import MAX_IDLE
from ollama_gateway.build_backends import Transports, build_backends
from ollama_gateway.build_listeners import admin_listener, public_listener
from ollama_gateway.build_operations import OperationParts
from ollama_gateway.configuration import (
    Configuration,
    Parts,
    configure,
    default_quota,
    new_backends,
    put_in_force,
    use_affinity,
)
from ollama_gateway.control.status import GatewayStatus
from ollama_gateway.flow.answers import AnswerBudget
from ollama_gateway.flow.hedging import Hedging
from ollama_gateway.http.listener import Listener
from ollama_gateway.keys.cache import KeyCache
from ollama_gateway.keys.identifying import find_key, open_keys
from ollama_gateway.keys.location import KeyStoreLocation, location_of
from ollama_gateway.ledger.audit import AuditServices, open_audit
from ollama_gateway.ledger.log import RecordMetrics, log_record
from ollama_gateway.ledger.read.audit_log import AuditPlace
from ollama_gateway.ledger.record import Sink
from ollama_gateway.ledger.spent import spent_elsewhere
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.limits.opening import RedisLocation, open_limits
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.admin import Admin
from ollama_gateway.server.app import App, AppConfig
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.server.reload_handlers import Reloader
from ollama_gateway.settings import Settings
from ollama_gateway.storage.batcher import Runner, in_thread
from ollama_gateway.watching import Watcher, watch_backends

if TYPE_CHECKING:
    from ollama_gateway.backends.shared import CatalogCopier


@attrs.define(eq=False)
class Gateway:
    """One process's gateway: its parts, and what the settings make of them now."""

    parts: Parts
    configuration: Configuration
    """In force; replaced by `adopt`."""
    app: App
    listener: Listener
    admin: Admin
    admin_app: App
    admin_listener: Listener
    watchers: Mapping[str, Watcher]
    copier: CatalogCopier | None
    pauses: Pauses

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self.configuration.settings

    @property
    def backends(self) -> Backends:
        """The backends in force."""
        return self.parts.backends

    def prepare(self, settings: Settings) -> Configuration:
        """Build what other settings say, and change nothing; blocks. Raises TLSFilesBroken."""
        return configure(settings, self.parts, self.settings)

    def offer_reload(self, reloader: Reloader) -> None:
        """Let the admin listener reload the settings."""
        self.admin.reloader = reloader
        self.admin_app.config = AppConfig(self.admin.routes())

    async def adopt(self, configuration: Configuration) -> None:
        """Put a prepared configuration in force, at once, after a poll of its new backends."""
        await self.parts.discovery.poll_new(new_backends(configuration, self.parts))
        self.configuration = configuration
        left = put_in_force(configuration, self.parts, self.app, self.listener)
        self.admin.access, self.admin.names = configuration.access, configuration.exchange.names
        self.admin.state.settings_file = configuration.settings.source
        self.admin_app.config = AppConfig(self.admin.routes())
        for transport in left:
            await transport.retire()


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
    server, race, discovery = settings.server, settings.race, settings.discovery
    backends = build_backends(settings, transports, metrics, most_idle=MAX_IDLE)
    url = settings.storage.database_url
    place = location_of(settings.storage.data_dir, url.reveal() if url else None)
    async with (
        aclosing(backends),
        open_keys(place, runner=runner) as keys,
        _open_limits(settings, metrics, runner) as limits,
        _open_audit(settings, runner, counted) as audit,
    ):
        parts = Parts(
            metrics=metrics,
            make_sinks=partial(_sinks, sinks, counted),
            keys=keys,
            limits=limits,
            audit=audit,
            backends=backends,
            discovery=BackendDiscovery(
                backends, interval=discovery.interval, timeout=discovery.timeout
            ),
            hedging=Hedging(after=race.hedge_after, ratio=race.max_hedge_ratio),
            bodies=BodyBudget(
                limit=server.max_body,
                total=server.max_body_total,
                containers=server.max_json_containers,
            ),
            answers=AnswerBudget(server.max_answers_total),
            transports=transports,
        )
        use_affinity(settings.affinity, parts)
        yield _gateway(configure(settings, parts), parts, place, runner)


def _gateway(
    configuration: Configuration, parts: Parts, place: KeyStoreLocation, runner: Runner
) -> Gateway:
    """Put the listeners, the admin's handlers and the watchers around the parts."""
    settings, keys, backends = configuration.settings, parts.keys, parts.backends
    app = App(configuration.app, parts.bodies, parts.metrics)
    listener = public_listener(
        settings.server, app, configuration.certificate, configuration.connections
    )
    copier = _copier(settings, backends)
    state = GatewayStatus(
        backends=backends,
        limits=parts.limits,
        audit=parts.audit,
        copier=copier,
        keys_are_readable=lambda: _can_judge(keys, place),
        keys_are_degraded=lambda: place.survives_outages and keys.statistics().store_failing,
        settings_file=settings.source,
        requests_running=lambda: app.requests_running,
        connections_open=lambda: len(listener.connections),
    )
    admin = Admin(
        state=state,
        backends=backends,
        names=configuration.exchange.names,
        metrics=parts.metrics,
        access=configuration.access,
        limits=parts.limits,
        audit=parts.audit,
        hedging=parts.hedging,
        heads=parts.heads,
        find_key=partial(find_key, place, runner=runner),
        connections_open=state.connections_open,
    )
    pauses = Pauses(PauseFile(settings.storage.data_dir).read, backends)
    admin.operations = OperationParts(
        parts=parts,
        records=_records(settings),
        in_force=lambda: gateway.configuration,
        state=state,
        pauses=pauses,
        keys=place,
        reloader=lambda: admin.reloader,
        runner=runner,
    ).all()
    admin_app, operators = admin_listener(admin.routes(), parts.metrics)
    gateway = Gateway(
        parts=parts,
        configuration=configuration,
        app=app,
        listener=listener,
        admin=admin,
        admin_app=admin_app,
        admin_listener=operators,
        watchers=_watchers(parts, copier, pauses),
        copier=copier,
        pauses=pauses,
    )
    return gateway


def _records(settings: Settings) -> AuditPlace:
    """Return where the audit records are, for those who read them."""
    url = settings.storage.database_url
    return AuditPlace(settings.storage.data_dir, url.reveal() if url else None)


def _sinks(
    given: tuple[Sink, ...] | None, counted: RecordMetrics, settings: Settings
) -> tuple[Sink, ...]:
    if given is None:
        given = (partial(log_record, share=settings.log.requests),)
    return (*given, counted)


def _can_judge(keys: KeyCache, place: KeyStoreLocation) -> bool:
    """Return True if some key can be accepted: by the store, or by the cache in an outage."""
    found = keys.statistics()
    return not found.store_failing or (place.survives_outages and found.usable > 0)


def _open_limits(
    settings: Settings, metrics: Metrics, runner: Runner
) -> AbstractAsyncContextManager[Limiter]:
    redis, database = settings.redis.url, settings.storage.database_url
    return open_limits(
        directory=settings.storage.data_dir,
        redis=RedisLocation(redis.reveal(), settings.redis.timeout) if redis else None,
        defaults=default_quota(settings.limits),
        default_output=settings.limits.default_output_tokens,
        metrics=metrics,
        elsewhere=partial(spent_elsewhere, database.reveal(), runner) if database else None,
        runner=runner,
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


def _watchers(parts: Parts, copier: CatalogCopier | None, pauses: Pauses) -> dict[str, Watcher]:
    audit = parts.audit
    watchers: dict[str, Watcher] = {
        "backends": partial(watch_backends, parts.discovery, parts.touches, parts.metrics),
        "pauses": pauses.watch,
        "audit": audit.upkeep.watch,
    }
    if audit.flusher is not None:
        watchers["flusher"] = audit.flusher.watch
    if audit.partitions is not None:
        watchers["partitions"] = audit.partitions.watch
    if copier is not None:
        watchers["catalog"] = copier.watch
    return watchers
