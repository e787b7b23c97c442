"""Ask each server that the settings name whether a gateway could use it now.

Each is asked as a gateway asks it. A trial reservation in Redis is given back, and an empty Redis
gets its generation, as from a gateway that starts.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from typing import Final

import attrs

from ollama_gateway.cli.backends import probes_of
from ollama_gateway.cli.keys.store import location_in
from ollama_gateway.keys.key import StoreError
from ollama_gateway.settings import Settings

REDIS_SECONDS: Final = 1.0
"""Seconds that Redis has at least: this looks for faults, and not how fast it is."""


@attrs.frozen
class OnlineCheck:
    """Whether one server can be used."""

    name: str
    """`redis`, `postgresql` or `backends.NAME`."""
    ok: bool
    cause: str | None = None
    """The fixed word for why Redis fails."""
    error: str | None = None
    """One line."""
    warnings: tuple[str, ...] = ()
    """Settings of the server that do not suit the gateway."""


def checks_of(settings: Settings) -> Iterator[OnlineCheck]:
    """Ask every server of the settings, one after the other; the backends at once."""
    timeout = max(settings.redis.timeout, REDIS_SECONDS)
    if settings.redis.url is not None:
        yield _of_redis(settings.redis.url.reveal(), timeout)
    if settings.storage.database_url is not None:
        yield _of_database(settings)
    for probe in probes_of(settings):
        yield OnlineCheck(f"backends.{probe.name}", probe.ok, error=probe.error)


def _of_redis(url: str, timeout: float) -> OnlineCheck:
    # Redis only where it is configured.
    from ollama_gateway.backends.shared import SharedCatalog  # noqa: PLC0415
    from ollama_gateway.limits.redis.operations import OpenGeneration, trial  # noqa: PLC0415
    from ollama_gateway.limits.redis.scripts import QuotaRedisDown, RedisScripts  # noqa: PLC0415
    from ollama_gateway.storage.redis import RedisFailed, doubts_of  # noqa: PLC0415

    try:
        with closing(RedisScripts(url, timeout=timeout)) as scripts:
            # Redis finds a lack of memory in the generation's write, and rights in the trial.
            for operation in (OpenGeneration(secrets.token_hex(8)), *trial()):
                (outcome,) = scripts.run([operation]).outcomes
                if isinstance(outcome, QuotaRedisDown):
                    raise outcome
        SharedCatalog(url).read({})
    except (QuotaRedisDown, RedisFailed) as error:
        cause = error.fault.word if error.fault else None
        return OnlineCheck("redis", ok=False, cause=cause, error=str(error))
    return OnlineCheck("redis", ok=True, warnings=tuple(doubts_of(url, timeout)))


def _of_database(settings: Settings) -> OnlineCheck:
    try:
        with closing(location_in(settings).open()) as store:
            store.check()
    except StoreError as error:
        return OnlineCheck("postgresql", ok=False, error=str(error))
    return OnlineCheck("postgresql", ok=True)
