"""The outcomes of a request, in words for operators. The reasons' words are in `reasons.py`."""

from __future__ import annotations

from typing import Final

from ollama_gateway.reasons import Outcome

OUTCOMES: Final[dict[Outcome, str]] = {
    "completed": "the whole answer was sent",
    "refused": "the gateway did not serve it",
    "client_gone": "the client left before the end",
    "cancelled": "an operator ended it",
    "upstream_failed": "no backend gave a whole answer",
    "timed_out": "no backend answered in time",
    "killed": "the gateway ended before the request had",
}
"""Every outcome that an audit record can have."""
