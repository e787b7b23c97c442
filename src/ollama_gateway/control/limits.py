"""The standing of keys in their limits, and its reset.

The figures are those of the store in force: of this process, or of Redis for several gateways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import anyio
import anyio.lowlevel
import attrs

from ollama_gateway.control.actor import Actor
from ollama_gateway.control.errors import NoSuchThing, Problem, WrongInput
from ollama_gateway.control.recording import recorded
from ollama_gateway.errors import Unavailable
from ollama_gateway.keys.key import APIKey, utc_now
from ollama_gateway.ledger.operator_change import ChangeRecorder, OperatorChange
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.limits.quota import KeyUsage, LimitName, LimitStatuses
from ollama_gateway.storage.batcher import Runner

Document = dict[str, Any]

RESETTABLE: Final[tuple[LimitName, ...]] = ("rate", "day", "month")
"""Requests at once are not used up, but running."""
AT_ONCE: Final = 100
"""Keys whose use is asked for together, between two turns of others."""
ON_DISK_SECONDS: Final = 2.0
"""Seconds that the usage journal has to note a reset."""


@attrs.frozen
class Standing:
    """How much of its limits a key has used."""

    key: APIKey
    statuses: LimitStatuses

    @property
    def shares(self) -> dict[LimitName, float]:
        """The share of each limit that is used; above 1 where a limit was lowered."""
        return {name: one.used / one.limit for name, one in self.statuses.items()}

    @property
    def share(self) -> float:
        """The largest of them; 0 without limits."""
        return max(self.shares.values(), default=0.0)

    def document(self) -> Document:
        """Return it as JSON has it."""
        shares = self.shares
        return {
            "key_id": self.key.id,
            "key_name": self.key.name,
            "nearest": max(shares, key=lambda name: shares[name], default=None),
            "share": round(self.share, 4) if shares else None,
            "limits": {
                name: {
                    "limit": one.limit,
                    "used": one.used,
                    "left": one.left,
                    "reset_s": round(one.reset, 1),
                }
                for name, one in self.statuses.items()
            },
        }


@attrs.frozen
class LimitsControl:
    """Reads and resets the use of limits."""

    limiter: Limiter
    keys: Callable[[], Sequence[APIKey]]
    """Returns all keys; it blocks, and raises StoreError."""
    recorder: ChangeRecorder
    runner: Runner

    async def all(self) -> list[Standing]:
        """Return the standing of all active keys, those near a limit first; raises Unavailable."""
        now = utc_now()
        keys = [key for key in await self.runner(self.keys) if key.is_active(now)]
        found: list[Standing] = []
        for start in range(0, len(keys), AT_ONCE):
            found += await self._together(keys[start : start + AT_ONCE])
            await anyio.lowlevel.checkpoint()
        return sorted(found, key=lambda one: (-one.share, one.key.id))

    async def of(self, key_id: str) -> Standing:
        """Return the standing of a key, by its id; raises NoSuchThing, Unavailable."""
        return await self._standing(await self._key(key_id))

    async def reset(
        self, key_id: str, actor: Actor, reason: str, names: Sequence[LimitName] = RESETTABLE
    ) -> Document:
        """Set what a key has used of limits back to zero, for good; return its standing then.

        Requests that run are charged at their end, and count. `is_on_disk` says whether the usage
        journal has noted it; if not, it will as soon as it can be written, and a restart before
        that would bring the use back.

        Args:
            key_id: the id of the key.
            actor: who asks.
            reason: the actor's own words.
            names: the limits.

        Raises:
            WrongInput: there is no reason.
            NoSuchThing: there is no such key.
            Unavailable: the store cannot say how much was used; some of it may have happened.
            ChangeNotRecorded: the audit log cannot record it; nothing has happened.

        """
        if not reason.strip():
            raise WrongInput([Problem("/reason", "is empty")])
        key = await self._key(key_id)
        store, journal = self.limiter.store, self.limiter.usage_journal
        before = _used(await store.usage(key.id), names)
        after: Document = {}
        change = OperatorChange(actor.name, "limits.reset", key.id, before, after, reason)
        async with recorded(self.recorder, change, self.runner):
            await store.forgive(key.id, names, journal)
            is_on_disk = await journal.forgiven_is_written(ON_DISK_SECONDS)
            after.update(_used(await store.usage(key.id), names))
        return {**(await self._standing(key)).document(), "is_on_disk": is_on_disk}

    async def _key(self, key_id: str) -> APIKey:
        """Return a key by its id: a name may pass to another."""
        for key in await self.runner(self.keys):
            if key.id == key_id:
                return key
        raise NoSuchThing("no key has this id")

    async def _standing(self, key: APIKey) -> Standing:
        return Standing(key, await self.limiter.statuses(key.id, key.limits))

    async def _together(self, keys: Sequence[APIKey]) -> list[Standing]:
        """Ask for several keys at once, which is one batch for the store."""
        found: list[Standing] = []
        faults: list[Unavailable] = []

        async def ask(key: APIKey) -> None:
            try:
                found.append(await self._standing(key))
            except Unavailable as error:
                faults.append(error)

        async with anyio.create_task_group() as tasks:
            for key in keys:
                tasks.start_soon(ask, key)
        if faults:
            raise faults[0]
        return found


def _used(usage: KeyUsage, names: Sequence[LimitName]) -> Document:
    used = {"rate": usage.admissions, "day": usage.day, "month": usage.month}
    return {name: used[name] for name in names}
