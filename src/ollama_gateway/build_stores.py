"""From settings to the stores of a gateway, each a block."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

from ollama_gateway.configuration import default_quota
from ollama_gateway.keys.location import KeyStoreLocation
from ollama_gateway.ledger.audit import AuditServices, open_audit
from ollama_gateway.ledger.log import RecordMetrics
from ollama_gateway.ledger.spent import spent_elsewhere
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.limits.opening import RedisLocation, open_limits
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.admin_checks import AdminChecks, open_admin_checks
from ollama_gateway.settings import Settings
from ollama_gateway.storage.batcher import Runner


def checks_opened(
    settings: Settings, place: KeyStoreLocation, runner: Runner, *, has_parent: bool
) -> AbstractAsyncContextManager[AdminChecks | None]:
    """Return the block in which admin tokens are checked; none where a parent does it."""
    if has_parent:
        return nullcontext()
    return open_admin_checks(place, settings.storage.data_dir, runner=runner)


def limits_opened(
    settings: Settings, metrics: Metrics, runner: Runner
) -> AbstractAsyncContextManager[Limiter]:
    """Return the block in which limits are counted."""
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


def audit_opened(
    settings: Settings, runner: Runner, counted: RecordMetrics
) -> AbstractAsyncContextManager[AuditServices]:
    """Return the block in which the audit log is written."""
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
