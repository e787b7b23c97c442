"""The headers and errors that tell a client of its limits, as in OpenAI's API.

OpenAI's clients read `x-ratelimit-{limit,remaining,reset}-{requests,tokens}`
(platform.openai.com/docs/guides/rate-limits); `reset` is a duration like `6m0s`. The `tokens`
headers show the budget that has less left. Concurrency has no headers there, and none here.
"""

from __future__ import annotations

import math
from typing import Final

from ollama_gateway.errors import LimitReached
from ollama_gateway.limits.quota import LimitName, LimitRefusal, LimitStatus, LimitStatuses, Quota
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.headers import Headers

REASONS: Final[dict[LimitName, Reason]] = {
    "rate": Reason.RATE,
    "concurrency": Reason.CONCURRENCY,
    "day": Reason.BUDGET,
    "month": Reason.BUDGET,
}
"""The reasons in the log, the metrics and the audit log."""

_WORDS: Final[dict[LimitName, str]] = {
    "rate": "this key's limit of {} requests a minute is reached",
    "concurrency": "this key's limit of {} requests at once is reached",
    "day": "this key's budget of {} tokens a day has no room for this request",
    "month": "this key's budget of {} tokens a month has no room for this request",
}


def headers_of(statuses: LimitStatuses) -> Headers:
    """Return the headers that show how much of the limits is left."""
    found: Headers = []
    if rate := statuses.get("rate"):
        found += _headers(b"requests", rate)
    budgets = [statuses[name] for name in ("day", "month") if name in statuses]
    if budgets:
        found += _headers(b"tokens", min(budgets, key=lambda budget: budget.left))
    return found


def refused(refusal: LimitRefusal, quota: Quota) -> LimitReached:
    """Return the 429 that names the limit and the time to wait."""
    statuses = refusal.usage.statuses(quota)
    words = _WORDS[refusal.limit].format(statuses[refusal.limit].limit)
    return LimitReached(
        f"{words}; try again in {duration(refusal.retry_after)}",
        reason=REASONS[refusal.limit],
        retry_after=max(1.0, refusal.retry_after),
        headers=tuple(headers_of(statuses)),
    )


def duration(seconds: float) -> str:
    """Write a duration as OpenAI does: `90ms`, `1s`, `6m0s`, `23h59m0s`."""
    if 0 < seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, seconds = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


def _headers(what: bytes, status: LimitStatus) -> Headers:
    return [
        (b"x-ratelimit-limit-" + what, b"%d" % status.limit),
        (b"x-ratelimit-remaining-" + what, b"%d" % status.left),
        (b"x-ratelimit-reset-" + what, duration(status.reset).encode()),
    ]
