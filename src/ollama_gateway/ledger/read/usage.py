"""Sums of requests and tokens by one or several of key, end user, model, backend, period, outcome.

Plain functions over sums (`grouping.py`), wherever they come from. The tokens of a request belong
to the day (UTC) on which it began, as in budgets.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, Literal, get_args

import attrs

from ollama_gateway.ledger.read.grouping import DAY, GroupSum
from ollama_gateway.ledger.record import FAILED

Period = Literal["day", "month"]
By = Literal["key", "end-user", "model", "backend", "day", "month", "outcome"]
WAYS: Final[tuple[By, ...]] = get_args(By)
PERIODS: Final[tuple[Period, ...]] = get_args(Period)
PROMPT_COUNTED: Final = frozenset({"counted", "prompt_counted"})
COMPLETION_COUNTED: Final = frozenset({"counted", "completion_counted"})
"""The values of `tokens_source` for tokens that no backend reported."""


@attrs.define
class UsageSums:
    """The sums of a group of requests."""

    names: tuple[str | None, ...]
    """The values that the group has in common, one for each way; None for requests without one."""
    labels: tuple[str | None, ...]
    """The same for people: for a key, its latest name."""
    requests: int = 0
    refused: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    counted_tokens: int = 0
    """How many of the tokens are estimates, made here because no backend reported them."""
    cached_tokens: int = 0
    """Tokens of prompts that the backends had in their caches, as far as they tell."""
    cached_of_tokens: int = 0
    """All tokens of the prompts whose backends tell how many were cached."""

    @property
    def cached_share(self) -> float | None:
        """The cached share of the prompts whose backends tell it; None if there are none."""
        return self.cached_tokens / self.cached_of_tokens if self.cached_of_tokens else None

    @property
    def estimated_share(self) -> float:
        """The share of the tokens that are estimates."""
        return self.counted_tokens / self.total_tokens if self.total_tokens else 0.0

    @property
    def total_tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.prompt_tokens + self.completion_tokens

    def add(self, group: GroupSum) -> None:
        """Count more requests, which have one outcome and one source of tokens."""
        *_, outcome, source = group.values
        prompt, completion, cached, cached_of = group.counts
        self.requests += group.requests
        self.refused += group.requests * (outcome == "refused")
        self.failed += group.requests * (outcome in FAILED)
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        self.counted_tokens += prompt * (source in PROMPT_COUNTED)
        self.counted_tokens += completion * (source in COMPLETION_COUNTED)
        self.cached_tokens += cached
        self.cached_of_tokens += cached_of


COUNTS: Final = tuple(field.name for field in attrs.fields(UsageSums) if field.default == 0)


def dimensions_of(ways: Sequence[By]) -> tuple[str, ...]:
    """Return the dimensions by which records must be summed for `usage`."""
    names = (_DIMENSIONS.get(way, (way.replace("-", "_"),)) for way in ways)
    return (*chain.from_iterable(names), "outcome", "tokens_source")


def usage(sums: Iterable[GroupSum], ways: Sequence[By]) -> list[UsageSums]:
    """Return the sums of each group: periods in order, others by their tokens, the most first.

    Groups by several ways are ordered by the first one, and those that agree in it by the next.
    """
    groups: dict[tuple[str | None, ...], UsageSums] = {}
    latest: dict[tuple[str | None, ...], str] = {}
    for one in sums:
        names, labels = zip(*_names(one, ways), strict=True)
        group = groups.setdefault(names, UsageSums(names, labels))
        if one.latest >= latest.get(names, ""):
            latest[names], group.labels = one.latest, labels
        group.add(one)
    return _ordered(groups.values(), ways)


def _names(group: GroupSum, ways: Sequence[By]) -> Iterator[tuple[str | None, str | None]]:
    """Yield a group's name and label for each way."""
    values = iter(group.values)
    for way in ways:
        name = next(values)
        if way == "month" and name is not None:
            name = name.rpartition("-")[0]
        yield name, next(values) if way == "key" else name


def _ordered(groups: Iterable[UsageSums], ways: Sequence[By]) -> list[UsageSums]:
    groups = list(groups)
    wholes: dict[tuple[str | None, ...], list[UsageSums]] = defaultdict(list)
    for group in groups:
        for length in range(1, len(ways) + 1):
            wholes[group.names[:length]].append(group)
    ranks = {names: _rank(names, found, ways) for names, found in wholes.items()}
    lengths = range(1, len(ways) + 1)
    return sorted(groups, key=lambda group: [ranks[group.names[:length]] for length in lengths])


def _rank(
    names: tuple[str | None, ...], groups: Sequence[UsageSums], ways: Sequence[By]
) -> tuple[int, int, str]:
    name = names[-1] or ""
    if ways[len(names) - 1] in PERIODS:
        return 0, 0, name
    whole = total(groups)
    return -whole.total_tokens, -whole.requests, name


def total(groups: Iterable[UsageSums]) -> UsageSums:
    """Return the sums of all groups together."""
    whole = UsageSums((), ())
    for group in groups:
        for count in COUNTS:
            setattr(whole, count, getattr(whole, count) + getattr(group, count))
    return whole


_DIMENSIONS: Final[dict[str, tuple[str, ...]]] = {
    "key": ("key_id", "key_name"),
    "day": (DAY,),
    "month": (DAY,),
}
"""For a key, what a group goes by and what it is called by."""
