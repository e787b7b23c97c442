"""Sums of requests and tokens by key, end user, model, backend, day or outcome.

Plain functions over documents (`records.py`), wherever they come from. The tokens of a request
belong to the day (UTC) on which it began, as in budgets.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal, get_args

import attrs

from ollama_gateway.ledger.document import Document
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

    def add(self, document: Document) -> None:
        """Count one more request."""
        prompt, completion = document["prompt_tokens"] or 0, document["completion_tokens"] or 0
        self.requests += 1
        self.refused += document["outcome"] == "refused"
        self.failed += document["outcome"] in FAILED
        self.prompt_tokens += prompt
        self.completion_tokens += completion
        source = document["tokens_source"]
        self.counted_tokens += prompt * (source in PROMPT_COUNTED)
        self.counted_tokens += completion * (source in COMPLETION_COUNTED)
        cached = document["cached_tokens"]
        if cached is not None:
            self.cached_tokens += min(cached, prompt)
            self.cached_of_tokens += prompt


COUNTS: Final = tuple(field.name for field in attrs.fields(UsageSums) if field.default == 0)


def usage(documents: Iterable[Document], by: By) -> list[UsageSums]:
    """Return the sums of each group: days in order, others by their tokens, the most first."""
    groups: dict[str | None, UsageSums] = {}
    for document in documents:
        name, label = _group(document, by)
        group = groups.setdefault(name, UsageSums(name, label))
        group.label = label
        group.add(document)
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


def _group(document: Document, by: By) -> tuple[str | None, str | None]:
    if by == "key":
        return document["key_id"], document["key_name"]
    if by == "day":
        day = document["started_at"][:10]
        return day, day
    name = document[by.replace("-", "_")]
    return name, name
