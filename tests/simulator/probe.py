"""A recorded request with its answer, and short ways to write one down."""

from __future__ import annotations

import re

import attrs

JSON = "application/json; charset=utf-8"
PLAIN_JSON = "application/json"
TEXT = "text/plain"
HTML = "text/html; charset=utf-8"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
X = '"messages":[{"role":"user","content":"x"}]'
FIGURES = (
    '"total_duration":0,"load_duration":0,"prompt_eval_count":11,'
    '"prompt_eval_duration":0,"eval_count":2,"eval_duration":0'
)
HELLO = (
    '"created_at":"T","message":{"role":"assistant","content":"Hello"},'
    f'"done":true,"done_reason":"stop",{FIGURES}}}'
)


def v1_error(message: str, kind: str = "invalid_request_error") -> str:
    """An error as `/v1` words it."""
    return f'{{"error":{{"message":"{message}","type":"{kind}","param":null,"code":null}}}}'


def not_found(message: str) -> str:
    """A 404 of a handler on `/v1`, with its newline."""
    return v1_error(message, "not_found_error") + "\n"


@attrs.frozen
class Probe:
    """A recorded request and its answer."""

    method: str
    path: str
    body: str | bytes = ""
    status: int = 200
    kind: str = JSON
    expected: str = ""
    framing: str = "length"
    headers: tuple[tuple[str, str], ...] = ()
    answered: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.body[:60]!r}"


def bad(path: str, body: str | bytes, message: str, status: int = 400) -> Probe:
    """An error on a native route."""
    return Probe("POST", path, body, status, JSON, f'{{"error":"{message}"}}')


def v1_bad(path: str, body: str | bytes, message: str) -> Probe:
    """An error that `/v1` raises before its handler."""
    return Probe("POST", path, body, 400, JSON, v1_error(message))


def moved(method: str, path: str, status: int, target: str) -> Probe:
    """A redirect."""
    page = f'<a href="{target}">Moved Permanently</a>.\n\n' if method == "GET" else ""
    kind = HTML if method == "GET" else ""
    return Probe(method, path, "", status, kind, page, answered=(("location", target),))


def refused(method: str, path: str, allow: str) -> Probe:
    """A wrong method."""
    text = "" if method == "HEAD" else "405 method not allowed"
    return Probe(method, path, "", 405, TEXT, text, answered=(("allow", allow),))


def served(name: str) -> Probe:
    """A chat whose model is spelt that way and echoed so."""
    body = f'{{"model":"{name}",{X},"stream":false}}'
    return Probe("POST", "/api/chat", body, 200, JSON, f'{{"model":"{name}",{HELLO}')


def legacy(name: str) -> Probe:
    """An embedding by the legacy route, which regards the case."""
    body = f'{{"model":"{name}","prompt":"x"}}'
    return Probe("POST", "/api/embeddings", body, 200, JSON, '{"embedding":[V]}')


def masked(text: str) -> str:
    """Put fixed values where every run has its own."""
    text = re.sub(r'"created_at":"[^"]+Z"', '"created_at":"T"', text)
    text = re.sub(r'_duration":\d+', '_duration":0', text)
    text = re.sub(r'"created":\d+', '"created":0', text)
    text = re.sub(r'"(chatcmpl|cmpl)-\d+"', r'"\1-0"', text)
    text = re.sub(r'"context":\[[\d,]+\]', '"context":[C]', text)
    return re.sub(r"\[-?\d+\.\d+(,-?[\d.e-]+)*\]", "[V]", text)
