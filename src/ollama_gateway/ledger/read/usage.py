"""Sums of requests and tokens by key, end user, model, backend, day or outcome.

Plain functions over sums (`grouping.py`), wherever they come from. The tokens of a request belong
to the day (UTC) on which it began, as in budgets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

import attrs

from ollama_gateway.ledger.read.grouping import DAY, GroupSum
from ollama_gateway.ledger.record import FAILED

By = Literal["key", "end-user", "model", "backend", "day", "outcome"]
WAYS: Final[tuple[By, ...]] = get_args(By)
PROMPT_COUNTED: Final = frozenset({"counted", "prompt_counted"})
COMPLETION_COUNTED: Final = frozenset({"counted", "completion_counted"})
"""The values of `tokens_source` for tokens that no backend reported."""


@attrs.define
class UsageSums:
    """The sums of a group of requests."""

    name: str | None
    """The value that the group has in common; None for requests without one."""
    label: str | None
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


def dimensions_of(by: By) -> tuple[str, ...]:
    """Return the dimensions by which records must be summed for `usage`."""
    return (*_NAMES.get(by, (by.replace("-", "_"),)), "outcome", "tokens_source")


def usage(sums: Iterable[GroupSum], by: By) -> list[UsageSums]:
    """Return the sums of each group: days in order, others by their tokens, the most first."""
    groups: dict[str | None, UsageSums] = {}
    latest: dict[str | None, str] = {}
    for one in sums:
        name, label = one.values[0], one.values[-3]
        group = groups.setdefault(name, UsageSums(name, label))
        if one.latest >= latest.get(name, ""):
            latest[name], group.label = one.latest, label
        group.add(one)
    if by == "day":
        return sorted(groups.values(), key=lambda group: group.name or "")
    return sorted(groups.values(), key=lambda g: (-g.total_tokens, -g.requests, g.name or ""))


def total(groups: Iterable[UsageSums]) -> UsageSums:
    """Return the sums of all groups together."""
    whole = UsageSums("total", "total")
    for group in groups:
        for count in COUNTS:
            setattr(whole, count, getattr(whole, count) + getattr(group, count))
    return whole


_NAMES: Final[dict[str, tuple[str, ...]]] = {"key": ("key_id", "key_name"), "day": (DAY,)}
"""What a group goes by first, and what it is called by last."""
