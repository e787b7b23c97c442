"""The words of a row, in sentences for a person."""

from __future__ import annotations

import re
from typing import Final

OUTCOMES: Final = {
    "completed": "the whole answer was sent",
    "refused": "the gateway did not serve it",
    "client_gone": "the client left before the end",
    "upstream_failed": "no backend gave a whole answer",
    "timed_out": "no backend answered in time",
    "killed": "the gateway ended before the request had",
}
"""Every outcome that a row can have."""

_REASONS: Final = {
    "answers_full": "all whole answers together were too large",
    "audit_unavailable": "it could not be recorded",
    "backend_down": "discovery found the backend gone",
    "backend_lacks_model": "every backend asked said that it lacks the model",
    "backend_refused": "the backend says that the request is wrong",
    "backends_down": "no backend that hosts the model was up",
    "backends_full": "every backend said that it is full",
    "bodies_full": "all request bodies together were too large",
    "body_too_large": "the body is over server.max_body",
    "budget": "the key's tokens of the day or the month are used up",
    "client_gone": "the client closed its connection",
    "concurrency": "the key had as many requests at once as it may",
    "connect_failed": "no connection to the backend could be made",
    "connection_broken": "the connection to the backend broke",
    "draining": "the gateway was being stopped",
    "empty_answer": "the backend's answer was empty",
    "endpoint_not_allowed": "the key may not use this endpoint",
    "error_as_answer": "the backend answered with an error",
    "error_in_stream": "the backend sent an error in the middle of its answer",
    "first_chunk_timeout": "no first chunk came within race.first_chunk_timeout",
    "frame_too_long": "a piece of the backend's answer was too long",
    "garbled_answer": "the backend's answer could not be read",
    "idle_timeout": "the backend stopped in the middle of its answer (race.idle_timeout)",
    "internal": "a defect of the gateway; its log has the trace",
    "invalid_body": "the body is not one that Ollama would take",
    "invalid_model_name": "the model's name is none",
    "key_bodies_full": "the key's request bodies together were too large",
    "killed": "the process was killed, or lost its machine",
    "model_not_allowed": "the key may not use this model",
    "no_terminal_marker": "the backend's answer ended before its end",
    "not_an_ollama": "what answered is no Ollama",
    "overtaken": "another backend was faster",
    "queue_full": "too many requests waited for a backend",
    "queue_timeout": "no backend had room within race.queue_timeout",
    "quota_unavailable": "the key's limits could not be checked",
    "rate": "the key had as many requests in a minute as it may",
    "reads_at_once": "the key had as many such requests at once as it may",
    "slow_body": "the body came too slowly",
    "total_timeout": "the whole took longer than race.total_timeout",
    "unknown_model": "no backend hosts this model",
    "unsupported_encoding": "the body has a Content-Encoding that is not supported",
    "upstream_failed": "every backend that was asked failed",
    "web_search_not_allowed": "the key may not have Ollama search the web",
}
_STATUS: Final = re.compile(r"status_(\d{3})", re.ASCII)


def in_words(reason: str) -> str | None:
    """A reason as half a sentence; None for a word that this version does not know."""
    if match := _STATUS.fullmatch(reason):
        return f"the backend answered with status {match[1]}"
    return _REASONS.get(reason)
