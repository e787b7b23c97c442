"""The Lua scripts in Redis, and the connection that runs batches of operations on them.

The scripts decide only by data in Redis and by its clock. A batch is one pipeline on one connection
and ends by reading the generation and the time: an unexpected generation means that Redis lost
everything before or during the batch, so nothing that the batch admitted counts.

Every failure of a batch or of one operation becomes a `QuotaRedisDown` with its cause, without
Redis's own words.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib import resources
from typing import Any, Final

import attrs
import redis

from ollama_gateway.limits.quota import LEASE_SECONDS
from ollama_gateway.limits.redis.operations import (
    GENERATION_KEY,
    REBUILD_KEY,
    Operation,
    milliseconds,
)
from ollama_gateway.storage.redis import RedisConnection, RedisFailed
from ollama_gateway.storage.redis_faults import RedisFault, fault_of

TIMEOUT_SECONDS: Final = 0.25
"""Seconds that Redis has to answer, or to accept a connection; `redis.timeout` by default."""

_OF_ACCOUNTS: Final = ("reserve", "settle", "renew", "usage", "contribute", "forgive")
_ALONE: Final = ("generation", "rebuild", "contributed")


class QuotaRedisDown(Exception):
    """Redis did not run an operation, or did not confirm it.

    Args:
        fault: the cause; None if Redis works and its answer does not count.

    """

    def __init__(self, fault: RedisFault | None = None) -> None:
        super().__init__(fault.line if fault else "the answer of Redis does not count")
        self.fault = fault


class AccountBroken(QuotaRedisDown):
    """Another program has written into this one account; a retry will not help."""


@attrs.frozen
class Batch:
    """The results of a batch."""

    outcomes: Sequence[Any]
    """The result of each operation, or a `QuotaRedisDown`."""
    generation: str | None
    """`NAME:OPENS` at the end of the batch; None if there is none."""
    is_rebuilding: bool
    """Whether a gateway was adding contributions at that moment."""
    time: float
    """Redis's clock at that moment, in seconds."""


class RedisScripts:
    """Runs batches of operations; blocking, one call at a time.

    Args:
        url: as in the settings.
        lease: seconds, see `LEASE_SECONDS`.
        timeout: seconds that Redis has for one batch, and that a request waits for it.

    Attributes:
        offset: seconds by which the scripts' clock runs ahead; for tests.

    """

    def __init__(
        self, url: str, *, lease: float = LEASE_SECONDS, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self.offset = 0.0
        self._lease = milliseconds(lease)
        self._redis = RedisConnection(url, timeout, decodes=True)
        self._texts = _load()
        self._digests: dict[str, str] = {}

    @property
    def timeout(self) -> float:
        """Seconds that Redis has for one batch; may be changed."""
        return self._redis.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._redis.timeout = seconds

    def close(self) -> None:
        """Close the connection."""
        self._redis.close()

    def run(self, operations: Sequence[Operation]) -> Batch:
        """Run a batch in order; raises QuotaRedisDown if the whole batch failed."""
        try:
            return self._redis.ask(partial(self._run_all, operations=operations))
        except RedisFailed as failure:
            # From None: its cause is redis-py's, with the text of the server.
            raise QuotaRedisDown(failure.fault) from None

    def _run_all(self, client: redis.Redis, operations: Sequence[Operation]) -> Batch:
        """Run a batch, and once more what failed for want of a script; read the replies."""
        batch = self._run(client, operations)
        outcomes = list(batch.outcomes)
        missing = [i for i, outcome in enumerate(outcomes) if _has_no_script(outcome)]
        if missing:  # a missing script has changed nothing, so a retry is safe
            self._digests = {}
            batch = self._run(client, [operations[i] for i in missing])
            for i, outcome in zip(missing, batch.outcomes, strict=True):
                outcomes[i] = outcome
        if any(map(_is_read_only, outcomes)):  # after a failover the name has a new address
            client.connection_pool.disconnect()
        read = [_read(op, reply) for op, reply in zip(operations, outcomes, strict=True)]
        return attrs.evolve(batch, outcomes=read)

    def _run(self, client: redis.Redis, operations: Sequence[Operation]) -> Batch:
        """Run a batch; its outcomes are raw replies."""
        if not self._digests:
            self._digests = {n: client.script_load(t) for n, t in self._texts.items()}
        pipeline = client.pipeline(transaction=False)
        offset = milliseconds(self.offset)
        for operation in operations:
            keys, arguments = operation.call(self._lease, offset)
            pipeline.evalsha(self._digests[operation.script], len(keys), *keys, *arguments)
        pipeline.mget(GENERATION_KEY, REBUILD_KEY)
        pipeline.time()
        *outcomes, signs, time = pipeline.execute(raise_on_error=False)
        for reply in (signs, time):
            if isinstance(reply, Exception):
                raise reply
        if not isinstance(signs, list):
            raise TypeError("no answer to MGET")
        generation, rebuilding = signs
        seconds, microseconds = time
        now = seconds + microseconds / 1e6 + self.offset
        return Batch(outcomes, generation, rebuilding is not None, now)


def _load() -> dict[str, str]:
    common = _text("account")
    of_accounts = {name: common + _text(name) for name in _OF_ACCOUNTS}
    return {**of_accounts, **{name: _text(name) for name in _ALONE}}


def _text(name: str) -> str:
    folder = resources.files("ollama_gateway.limits.redis") / "lua"
    return (folder / f"{name}.lua").read_text(encoding="utf-8")


def _has_no_script(outcome: object) -> bool:
    return isinstance(outcome, redis.exceptions.NoScriptError)


def _is_read_only(outcome: object) -> bool:
    return isinstance(outcome, Exception) and fault_of(outcome) is RedisFault.READ_ONLY


def _read(operation: Operation, reply: object) -> Any:
    if isinstance(reply, redis.ResponseError) and "WRONGTYPE" in str(reply):
        return AccountBroken(RedisFault.OTHER)
    if isinstance(reply, Exception):
        return QuotaRedisDown(fault_of(reply))
    if not isinstance(reply, str):
        return QuotaRedisDown(RedisFault.NOT_REDIS)
    try:
        return operation.read(reply)
    except (ValueError, LookupError):  # the account has text where numbers belong
        return QuotaRedisDown(RedisFault.OTHER)
