"""What the real server's router, its listings and its origin check were recorded to answer."""

from __future__ import annotations

from tests.simulator.probe import PLAIN_JSON, TEXT, Probe, bad, moved, not_found, refused

ROUTER = [
    Probe("GET", "/", kind="text/plain; charset=utf-8", expected="Ollama is running"),
    Probe("HEAD", "/", kind="text/plain; charset=utf-8", answered=(("content-length", "17"),)),
    Probe("GET", "/api/version", expected='{"version":"0.0.0"}'),
    Probe("HEAD", "/api/version", answered=(("content-length", "19"),)),
    Probe("GET", "/api/version?x=1", expected='{"version":"0.0.0"}'),
    Probe("GET", "/api/status", expected='{"cloud":{"disabled":true,"source":"env"}}'),
    Probe("GET", "/api/ps", expected='{"models":[]}'),
    Probe("GET", "/nope", "", 404, TEXT, "404 page not found"),
    Probe("GET", "/API/tags", "", 404, TEXT, "404 page not found"),
    Probe("GET", "/v1/models/library/m1", "", 404, TEXT, "404 page not found"),
    Probe("GET", "/v1/models/library%2Fm1", "", 404, TEXT, "404 page not found"),
    Probe("POST", "/v1/messages/count_tokens", "{}", 404, TEXT, "404 page not found"),
    Probe("OPTIONS", "/nope", "", 404, TEXT, "404 page not found"),
    refused("GET", "/api/chat", "POST"),
    refused("POST", "/api/tags", "HEAD, GET"),
    refused("HEAD", "/api/ps", "GET"),
    refused("OPTIONS", "/api/chat", "POST"),
    refused("OPTIONS", "/api/tags", "HEAD, GET"),
    moved("GET", "/api/tags/", 301, "/api/tags"),
    moved("POST", "/api/chat/", 307, "/api/chat"),
    moved("GET", "//api/tags", 301, "/api/tags"),
    moved("POST", "//api/chat", 301, "/api/chat"),
    moved("GET", "/v1/models/", 301, "/v1/models"),
]
LISTINGS = [
    Probe(
        "GET",
        "/v1/models",
        kind=PLAIN_JSON,
        expected='{"object":"list","data":[{"id":"m1:latest","object":"model","created":0,'
        '"owned_by":"library"}]}\n',
    ),
    Probe(
        "GET",
        "/v1/models/m1",
        kind=PLAIN_JSON,
        expected='{"id":"m1","object":"model","created":0,"owned_by":"library"}\n',
    ),
    Probe(
        "GET",
        "/v1/models/none",
        "",
        404,
        PLAIN_JSON,
        not_found("model 'none:latest' not found"),
    ),
    bad("/api/show", '{"model":"none"}', "model 'none:latest' not found", 404),
    bad("/api/show", '{"model":"a","name":"b"}', "model 'a:latest' not found", 404),
    bad("/api/show", '{"model":""}', "model is required"),
    bad(
        "/api/show",
        '{"model":"none:cloud"}',
        "ollama cloud is disabled: remote model details are unavailable",
        403,
    ),
]
ALLOWED = (("access-control-allow-origin", "http://localhost:3000"), ("vary", "Origin"))
ORIGINS = [
    *(
        Probe("GET", "/api/version", "", 403, "", headers=(("Origin", origin),))
        for origin in ("http://evil.example", "null", "chrome-extension://abc")
    ),
    Probe("POST", "/api/chat", "{}", 403, "", headers=(("Origin", "http://evil.example"),)),
    Probe(
        "GET",
        "/api/version",
        expected='{"version":"0.0.0"}',
        headers=(("Origin", "http://localhost:3000"),),
        answered=ALLOWED,
    ),
    Probe(
        "GET",
        "/api/version",
        expected='{"version":"0.0.0"}',
        headers=(("Origin", "http://sim"),),
    ),
    Probe(
        "OPTIONS",
        "/api/chat",
        "",
        204,
        "",
        framing="close",
        headers=(("Origin", "http://localhost:3000"),),
        answered=(*ALLOWED, ("access-control-max-age", "43200")),
    ),
]
ROUTES = [*ROUTER, *LISTINGS, *ORIGINS]
