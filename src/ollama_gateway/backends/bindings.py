"""Bindings: which replica has a conversation in its prefix cache, as far as is known.

One table holds the bindings of all models, the least recently used first. It forgets those that
were idle for too long, and the oldest when it is full. A key holds at most half of the places that
one replica has while other keys hold some, and then loses its own oldest first.

A dict keeps the order: a binding that is used is taken out and added at the end. The front of the
dict is then full of gaps, which cost time to skip, so it is looked at once a second and when
bindings must go, then several at once, but never so many that others would notice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

import attrs

from ollama_gateway.backends.replica import Replica

if TYPE_CHECKING:
    from ollama_gateway.backends.backend import Backend

MAX_BINDINGS: Final = 100_000
MAX_OF_REPLICA: Final = 8192
"""Bindings to one replica; no prefix cache holds as many conversations."""
AT_ONCE: Final = 256
"""Bindings that are forgotten in one piece, at most: well below a millisecond."""
FARTHEST: Final = 2048
"""Bindings among which the ones used since another are counted."""
SECOND: Final = 1.0
"""Seconds between two looks at the front; also how exactly the time of a use is known."""


@attrs.define(eq=False, weakref_slot=False)
class Binding:
    """One conversation's replica. There may be 100,000, so each byte counts."""

    backend: Backend
    replica: Replica
    key_id: str
    tokens: int
    """Tokens of its last prompt that should be found cached next time."""
    heads: bytes = b""
    """Eight bytes of each different head that the identity has shown, at most three."""
    used_at: float = attrs.field(default=0.0, init=False)


@attrs.define(eq=False)
class Bindings:
    """All bindings of one process, by identity."""

    idle: float
    """Seconds after which an unused binding is forgotten."""
    limit: int = MAX_BINDINGS
    limit_of_replica: int = MAX_OF_REPLICA
    _all: dict[bytes, Binding] = attrs.field(factory=dict, init=False)
    _of_replica: Counter[Replica] = attrs.field(factory=Counter, init=False)
    _of_key: dict[Replica, Counter[str]] = attrs.field(factory=dict, init=False)
    """How many each key has at each replica."""
    _second: float = attrs.field(default=0.0, init=False)
    """The time, to the second; shared by all bindings that were used in it."""

    def __len__(self) -> int:
        return len(self._all)

    def get(self, identity: bytes, now: float) -> Binding | None:
        """Return the binding of an identity, unless it was idle for too long."""
        found = self._all.get(identity)
        return None if found is None or now - found.used_at > self.idle else found

    def peek(self, identity: bytes) -> Binding | None:
        """Return the binding of an identity, however old it is."""
        return self._all.get(identity)

    def count(self, replica: Replica) -> int:
        """Return how many conversations are bound to a replica."""
        return self._of_replica[replica]

    def others_since(self, identity: bytes, most: int) -> int:
        """Return how many bindings of the same replica were used since; at most `most`.

        Far back the count is not worth its time; then it is `most`.
        """
        binding = self._all[identity]
        others = 0
        for name, other in islice(reversed(self._all.items()), FARTHEST):
            if name == identity or others >= most:
                return others
            others += other.replica is binding.replica
        return most

    def bind(self, identity: bytes, binding: Binding, now: float) -> None:
        """Bind an identity, and note that it was used now; replaces an older binding."""
        if (known := self._all.pop(identity, None)) is not None:
            self._uncount(known)
        if now - self._second >= SECOND:
            self._second = now
            self._forget(islice(self._idle(now), AT_ONCE))
        binding.used_at = self._second
        self._all[identity] = binding
        self._of_replica[binding.replica] += 1
        self._of_key.setdefault(binding.replica, Counter())[binding.key_id] += 1
        self._make_room(binding.replica, binding.key_id)

    def _make_room(self, replica: Replica, key_id: str) -> None:
        total, held = self._of_replica[replica], self._of_key[replica]
        if held[key_id] < total and held[key_id] > self.limit_of_replica // 2:
            self._forget(islice(self._of(replica, key_id), _some(held[key_id])))
        elif total > self.limit_of_replica:
            most, number = held.most_common(1)[0]
            self._forget(islice(self._of(replica, most), _some(number)))
        if len(self._all) > self.limit:
            self._forget(islice(self._all, _some(self.limit)))

    def _of(self, replica: Replica, key_id: str) -> Iterator[bytes]:
        for identity, binding in self._all.items():
            if binding.replica is replica and binding.key_id == key_id:
                yield identity

    def _idle(self, now: float) -> Iterator[bytes]:
        for identity, binding in self._all.items():
            if now - binding.used_at <= self.idle:
                return
            yield identity

    def _forget(self, identities: Iterable[bytes]) -> None:
        for identity in list(identities):
            self._uncount(self._all.pop(identity))

    def _uncount(self, binding: Binding) -> None:
        replica, held = binding.replica, self._of_key[binding.replica]
        self._of_replica[replica] -= 1
        held[binding.key_id] -= 1
        if not held[binding.key_id]:
            del held[binding.key_id]
        if not held:
            del self._of_key[replica], self._of_replica[replica]


def _some(number: int) -> int:
    """Return how many of `number` go at once."""
    return min(number // 64 + 1, AT_ONCE)
