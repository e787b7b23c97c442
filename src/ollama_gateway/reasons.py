"""The reasons with which requests and attempts end: each a fixed word, and what it means.

The word is stored in audit records and stands in the log and in `/metrics`, so its text never
changes; `words` is for operators. A backend's own status is a reason too, `status_500` and the
like, made by `reason_of`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final, Literal, NewType, Self, TypeAlias

Outcome: TypeAlias = Literal[
    "completed", "refused", "client_gone", "upstream_failed", "timed_out", "killed"
]
"""How a request ended."""


class Reason(StrEnum):
    """Why a request was refused or failed, or why an attempt at one backend failed."""

    words: str
    """Half a sentence for operators."""

    def __new__(cls, value: str, words: str = "") -> Self:
        """Make a member whose value is the word itself."""
        self = str.__new__(cls, value)
        self._value_ = value
        self.words = words
        return self

    ADDRESS_CAP = "address_cap", "the client's address had as many connections as it may"
    ADMIN_ATTEMPTS = "admin_attempts", "the client's address had sent too many wrong admin tokens"
    ANSWERS_FULL = "answers_full", "all whole answers together were too large"
    AUDIT_UNAVAILABLE = "audit_unavailable", "it could not be recorded"
    BACKEND_DOWN = "backend_down", "discovery found the backend gone"
    BACKEND_LACKS_MODEL = "backend_lacks_model", "every backend asked said that it lacks the model"
    BACKEND_REFUSED = "backend_refused", "the backend says that the request is wrong"
    BACKENDS_DOWN = "backends_down", "no backend that hosts the model was up"
    BACKENDS_FULL = "backends_full", "every backend said that it is full"
    BACKENDS_PAUSED = "backends_paused", "every backend that hosts the model was paused"
    BAD_REQUEST = "bad_request", "the request could not be understood"
    BAD_REQUEST_BODY = "bad_request_body", "the body was not framed as HTTP/1.1 wants it"
    BAD_REQUEST_HEAD = "bad_request_head", "the request line or the headers were not HTTP/1.1"
    BODIES_FULL = "bodies_full", "all request bodies together were too large"
    BODY_TOO_LARGE = "body_too_large", "the body is over server.max_body"
    BUDGET = "budget", "the key's tokens of the day or the month are used up"
    CLIENT_GONE = "client_gone", "the client closed its connection"
    CONCURRENCY = "concurrency", "the key had as many requests at once as it may"
    CONNECT_FAILED = "connect_failed", "no connection to the backend could be made"
    CONNECTION_BROKEN = "connection_broken", "the connection to the backend broke"
    CONNECTION_CAP = "connection_cap", "the gateway had as many connections as it may"
    DRAINING = "draining", "the gateway was being stopped"
    EMPTY_ANSWER = "empty_answer", "the backend's answer was empty"
    ENDPOINT_NOT_ALLOWED = "endpoint_not_allowed", "the key may not use this endpoint"
    ERROR_AS_ANSWER = "error_as_answer", "the backend answered with an error"
    ERROR_IN_STREAM = "error_in_stream", "the backend sent an error in the middle of its answer"
    FIRST_CHUNK_TIMEOUT = (
        "first_chunk_timeout",
        "no first chunk came within race.first_chunk_timeout",
    )
    FOREIGN_HOST = "foreign_host", "the request names a host that is not known to be the gateway"
    FOREIGN_ORIGIN = "foreign_origin", "a page of an origin that is not allowed sent the request"
    FRAME_TOO_LONG = "frame_too_long", "one frame of the backend's answer was too long"
    GARBLED_ANSWER = "garbled_answer", "the backend's answer was none of this dialect"
    HEADERS_TOO_LARGE = "headers_too_large", "the request's headers were too large"
    IDLE_TIMEOUT = (
        "idle_timeout",
        "the backend stopped in the middle of its answer (race.idle_timeout)",
    )
    INTERNAL = "internal", "a defect of the gateway; its log has the trace"
    INVALID_BODY = "invalid_body", "the body is not one that Ollama would take"
    INVALID_DIGEST = "invalid_digest", "the blob's digest is not one"
    INVALID_KEY = "invalid_key", "the request had no valid API key"
    INVALID_MODEL_NAME = "invalid_model_name", "the model's name is not valid"
    KEY_BODIES_FULL = "key_bodies_full", "the key's request bodies together were too large"
    KEYS_UNAVAILABLE = "keys_unavailable", "the API key could not be checked"
    KILLED = "killed", "the process was killed, or lost its machine"
    LOST_TO_HEDGE = "overtaken", "another backend was faster"
    MODEL_NOT_ALLOWED = "model_not_allowed", "the key may not use this model"
    NO_PROCESS = "no_process", "no process of the gateway answered"
    NO_SUCH_BACKEND = "no_such_backend", "the request named a backend that does not exist"
    NO_TERMINAL_MARKER = "no_terminal_marker", "the backend ended its answer without a last line"
    NOT_AN_OLLAMA = "not_an_ollama", "the server that answered is not an Ollama"
    QUEUE_FULL = "queue_full", "too many requests waited for a backend"
    QUEUE_TIMEOUT = "queue_timeout", "no backend had room within race.queue_timeout"
    QUOTA_UNAVAILABLE = "quota_unavailable", "the key's limits could not be checked"
    RATE = "rate", "the key had as many requests in a minute as it may"
    READS_AT_ONCE = "reads_at_once", "the key had as many such requests at once as it may"
    ROLE_TOO_LOW = "role_too_low", "the role of the admin token does not allow it"
    SLOW_BODY = "slow_body", "the body came too slowly"
    SLOW_HEAD = "slow_head", "the headers came too slowly"
    SLOW_REQUEST = "slow_request", "the request came too slowly"
    TLS_HANDSHAKE = "tls_handshake", "the TLS handshake failed"
    TOOLS_REMOVED = "tools_removed", "search tools that the key may not use were taken out"
    TOTAL_TIMEOUT = "total_timeout", "the whole took longer than race.total_timeout"
    UNKNOWN_MODEL = "unknown_model", "no backend hosts this model"
    UNKNOWN_ROUTE = "unknown_route", "the gateway has no such path"
    UNLOAD_IGNORED = "unload_ignored", "the key may not unload models, so the model stayed"
    UNSUPPORTED_ENCODING = (
        "unsupported_encoding",
        "the body has a Content-Encoding that is not supported",
    )
    UPSTREAM_FAILED = "upstream_failed", "every backend that was asked failed"
    WEB_SEARCH_NOT_ALLOWED = (
        "web_search_not_allowed",
        "the key may not have Ollama search the web",
    )
    WRONG_METHOD = "wrong_method", "the path is not for this method"


StatusReason = NewType("StatusReason", str)
"""The status with which a backend failed, such as `status_500`."""
AnyReason = Reason | StatusReason

_STATUS: Final = re.compile(r"status_(\d{3})", re.ASCII)


def reason_of(status: int) -> StatusReason:
    """Return the reason of an attempt that a backend answered with an error."""
    return StatusReason(f"status_{status}")


def words_of(reason: str) -> str | None:
    """Explain a reason in half a sentence; None for a word that this version does not know."""
    if match := _STATUS.fullmatch(reason):
        return f"the backend answered with status {match[1]}"
    try:
        return Reason(reason).words
    except ValueError:
        return None
