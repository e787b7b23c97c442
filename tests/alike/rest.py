"""Unreadable bodies, missing paths, names in every spelling, and management."""

from __future__ import annotations

from typing import Any, Final

from tests.alike.case import (
    BY_BACKEND,
    JSON,
    LINES,
    NOTHING,
    SAY_HI,
    TEXT,
    UNMETERED,
    Case,
    Metered,
    Otherwise,
    counted,
    get,
    missing_model,
    post,
    refused,
    reported,
    unread,
)

CHAT: Final = "/api/chat"
DIGEST: Final = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
BLOB: Final = f"/api/blobs/sha256:{DIGEST}"
REPEATED: Final = "two readers may take different values, so the gateway takes none"
REDIRECT: Final = "the gateway never redirects: a client that follows may lose its body or key"


def named(model: str, **more: Any) -> Case:
    """A chat with a model of this name."""
    record = more.pop("record", reported(11, 2))
    status, kind = more.pop("status", 200), more.pop("kind", LINES)
    body = {"model": model, "messages": SAY_HI}
    return post(CHAT, f"the name {model!r}", body, status, kind, record=record, **more)


def elsewhere(method: str, path: str, title: str, status: int, kind: str, **more: Any) -> Case:
    """A request by any method."""
    return Case(title, method, path, more.pop("body", b""), status, kind, **more)


BODIES: Final = (
    post(CHAT, "nothing", b"", 400, record=refused("invalid_body")),
    unread(CHAT, "bad JSON", b'{"model":', "not valid JSON"),
    unread(CHAT, "a list", b"[]", "must be a JSON object"),
    unread("/v1/chat/completions", "bad JSON", b"{bad", "not valid JSON"),
    unread("/v1/messages", "bad JSON", b"{bad", "not valid JSON"),
    unread("/v1/responses", "null", b"null", "must be a JSON object"),
    unread(CHAT, "a number for the model", {"model": 5}, "model must be a string"),
    unread(
        CHAT,
        "a text for stream",
        {"model": "m1", "messages": SAY_HI, "stream": "yes"},
        "stream must be a boolean",
    ),
    post(CHAT, "no model", {"messages": SAY_HI}, 400, record=refused("invalid_model_name")),
    unread(
        "/api/generate",
        "no model",
        {"prompt": "hi"},
        "model is required",
        404,
        reason="invalid_model_name",
    ),
    unread(
        "/v1/completions",
        "no model",
        {"prompt": "hi"},
        "model is required",
        404,
        reason="invalid_model_name",
    ),
    unread(
        CHAT,
        "model twice",
        b'{"model":"m1","MODEL":"tool","messages":[]}',
        "the same key twice",
        200,
    ),
    unread(CHAT, "a BOM", b'\xef\xbb\xbf{"model":"m1"}', "not valid JSON"),
    unread(CHAT, "more behind it", b'{"model":"m1","messages":[]} {}', "not valid JSON", 200),
)
NAMES: Final = (
    named("M1"),
    named("m1:latest"),
    named("library/m1"),
    named("registry.ollama.ai/library/m1:latest"),
    named("https://registry.ollama.ai/library/m1"),
    named(" m1 "),
    named("m1:local"),
    named("TEAM/Own:V1"),
    missing_model(
        CHAT, {"messages": SAY_HI}, 403, record=refused("model_not_allowed"), model="m1:cloud"
    ),
    missing_model(CHAT, {"messages": SAY_HI}, model="other/m1"),
    named("a/b/c/d e", status=400, kind=JSON, record=refused("invalid_model_name")),
    post(
        "/api/embeddings",
        "another case",
        {"model": "M1", "prompt": "x" * 40},
        404,
        record=counted(10, 0),
        otherwise=Otherwise(
            "only this route compares names with case, which no client can know",
            200,
            '{"embedding":[',
        ),
    ),
)
ROUTES: Final = (
    get("/api/nothing", "unknown path", 404, TEXT),
    get("/API/tags", "case of a path", 404, TEXT),
    get(CHAT, "wrong method", 405, TEXT),
    elsewhere("DELETE", "/v1/chat/completions", "wrong method", 405, TEXT),
    elsewhere("HEAD", "/", "that it runs", 200, TEXT),
    elsewhere("HEAD", "/api/tags", "is there", 200, JSON),
    elsewhere("HEAD", "/api/ps", "is not", 405, TEXT),
    get(
        "/api/tags/",
        "a slash too many",
        301,
        "text/html",
        otherwise=Otherwise(REDIRECT, 200, '{"models":', JSON),
    ),
)
MANAGING: Final = (
    post(
        "/api/copy",
        "to a new name",
        {"source": "m1", "destination": "mine"},
        200,
        NOTHING,
        record=UNMETERED,
    ),
    get("/api/tags", "after a copy"),
    post("/api/copy", "of nothing", {"source": "none", "destination": "x"}, 404, record=BY_BACKEND),
    post("/api/pull", "streamed", {"model": "new:1"}, 200, LINES, record=UNMETERED),
    post("/api/pull", "whole", {"model": "new:1", "stream": False}, record=UNMETERED),
    post(
        "/api/pull",
        "of nothing",
        {"model": "none:1"},
        200,
        LINES,
        record=Metered("upstream_failed", "error_in_stream"),
    ),
    post("/api/push", "streamed", {"model": "new:1"}, 200, LINES, record=UNMETERED),
    elsewhere("HEAD", BLOB, "that is not there", 404, JSON, record=BY_BACKEND),
    post(BLOB, "sent", b"hello", 201, NOTHING, record=UNMETERED),
    elsewhere("HEAD", BLOB, "that is there", 200, NOTHING, record=UNMETERED),
    post(BLOB, "sent again", b"hello", 200, NOTHING, record=UNMETERED),
    post(f"{BLOB[:-1]}9", "with other bytes", b"hello", 400, record=BY_BACKEND),
    post(
        "/api/create",
        "from another",
        {"model": "made", "from": "m1", "system": "s"},
        200,
        LINES,
        record=UNMETERED,
    ),
    elsewhere(
        "DELETE",
        "/api/delete",
        "what was made",
        200,
        NOTHING,
        body={"model": "made"},
        record=UNMETERED,
    ),
    elsewhere(
        "DELETE", "/api/delete", "nothing", 404, JSON, body={"model": "none"}, record=BY_BACKEND
    ),
    get("/api/tags", "after all that"),
)
CASES: Final = BODIES + NAMES + ROUTES + MANAGING
