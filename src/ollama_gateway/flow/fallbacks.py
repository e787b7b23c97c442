"""The candidates of an alias: those of its first model, then those of the next.

The next model's turn comes when no backend is left for the one before: each has failed, or is down.
With `on_full` it also comes when the one before has no room; where no model has any, the request
waits for the first. A hedge goes to a backend of the model that is being tried.

The race knows nothing of this: its attempts and its deadline count for all models together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from ollama_gateway.backends.evaluation import Evaluation, RouteRequest
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.outlook import Outlook
from ollama_gateway.backends.selection import Candidates, HedgeSkipped, TokenBucket


@attrs.define(eq=False)
class Fallbacks:
    """The candidates of several models, at least one; used as `Candidates` are."""

    by_model: Sequence[Candidates]
    """In the order of the alias."""
    on_full: bool
    _current: Candidates = attrs.field(init=False)
    """Those of the model that is being tried."""

    def __attrs_post_init__(self) -> None:
        self._current = self.by_model[0]

    @property
    def are_several(self) -> bool:
        """True if hedging is possible."""
        return self.by_model[0].are_several

    @property
    def route(self) -> RouteRequest:
        """The route of the model that is being tried."""
        return self._current.route

    async def next(self, bucket: TokenBucket) -> Slot | None:
        """Take a slot for the first model that has a backend left, waiting in line if necessary.

        See `Candidates.next`.
        """
        if self.on_full and (slot := self._take(bucket)) is not None:
            return slot
        for candidates in self.by_model:
            self._current = candidates
            if (slot := await candidates.next(bucket)) is not None:
                return slot
        return None

    def hedge(
        self, may_win: Callable[[Evaluation], bool], may_pay: Callable[[Evaluation], bool]
    ) -> Slot | HedgeSkipped:
        """Take a slot for a hedge, or return why there is none."""
        return self._current.hedge(may_win, may_pay)

    def outlook(self) -> Outlook:
        """Return what stands between the request and the model that is being tried."""
        return self._current.outlook()

    def _take(self, bucket: TokenBucket) -> Slot | None:
        """Take a slot for the first model that has room now, without waiting."""
        for candidates in self.by_model:
            if (slot := candidates.take_at_once(bucket)) is not None:
                self._current = candidates
                return slot
        return None
