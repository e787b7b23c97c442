"""What the real server was recorded to refuse, and what it lets pass."""

from __future__ import annotations

from tests.simulator.probe import (
    HELLO,
    JSON,
    PLAIN_JSON,
    Probe,
    X,
    bad,
    legacy,
    not_found,
    served,
    v1_bad,
    v1_error,
)

SYNTAX = "invalid character 'b' looking for beginning of object key string"
BODIES = [
    probe
    for path, shape in {
        "/api/chat": "ChatRequest",
        "/api/generate": "GenerateRequest",
        "/api/embed": "EmbedRequest",
        "/api/embeddings": "EmbeddingRequest",
        "/api/show": "ShowRequest",
    }.items()
    for probe in (
        bad(path, "", "missing request body"),
        bad(path, "{bad", SYNTAX),
        bad(path, '{"model":"m1"', "unexpected EOF"),
        bad(path, "[]", f"json: cannot unmarshal array into Go value of type api.{shape}"),
        bad(
            path,
            '{"model":5}',
            f"json: cannot unmarshal number into Go struct field {shape}.model of type string",
        ),
    )
] + [
    probe
    for path, shape in {
        "/v1/chat/completions": "ChatCompletionRequest",
        "/v1/completions": "CompletionRequest",
        "/v1/embeddings": "EmbedRequest",
    }.items()
    for probe in (
        v1_bad(path, "", "EOF"),
        v1_bad(path, "{bad", SYNTAX),
        v1_bad(path, '{"model":"m1"', "unexpected EOF"),
        v1_bad(path, "[]", f"json: cannot unmarshal array into Go value of type openai.{shape}"),
        v1_bad(
            path,
            '{"model":5}',
            f"json: cannot unmarshal number into Go struct field {shape}.model of type string",
        ),
    )
]
MISSING = [
    bad("/api/chat", "{}", "model is required"),
    bad("/api/chat", "null", "model is required"),
    bad("/api/generate", "{}", "model '' not found", 404),
    bad("/api/embed", "{}", "model '' not found", 404),
    bad("/api/embeddings", "{}", "model is required"),
    bad("/api/chat", f'{{"name":"m1",{X}}}', "model is required"),
    bad("/api/chat", f'{{"model":"none",{X}}}', "model 'none' not found", 404),
    bad("/api/generate", '{"model":"none","prompt":"x"}', "model 'none' not found", 404),
    bad(
        "/api/embed",
        '{"model":"none","input":"x"}',
        r"model \"none\" not found, try pulling it first",
        404,
    ),
    bad(
        "/api/embeddings",
        '{"model":"M1","prompt":"x"}',
        r"model \"M1\" not found, try pulling it first",
        404,
    ),
    v1_bad("/v1/chat/completions", "{}", "[] is too short - 'messages'"),
    v1_bad("/v1/embeddings", "{}", "invalid input"),
    Probe("POST", "/v1/completions", "{}", 404, PLAIN_JSON, not_found("model '' not found")),
    Probe(
        "POST",
        "/v1/chat/completions",
        f'{{"model":"a","MODEL":"b",{X}}}',
        404,
        PLAIN_JSON,
        not_found("model 'b' not found"),
    ),
    Probe(
        "POST",
        "/v1/embeddings",
        '{"model":"none","input":"x"}',
        404,
        PLAIN_JSON,
        not_found(r"model \"none\" not found, try pulling it first"),
    ),
    bad("/api/chat", f'{{"model":"a","Model":"b",{X}}}', "model 'b' not found", 404),
    bad("/api/chat", f'{{"Model":"a","model":"b",{X}}}', "model 'b' not found", 404),
    Probe(
        "POST",
        "/v1/chat/completions",
        f'{{"model":"none:cloud",{X}}}',
        403,
        JSON,
        '{"error":"ollama cloud is disabled: remote model is unavailable"}',
    ),
]
NAMES = [
    *(
        bad(path, f'{{"model":"{name}",{X},"prompt":"x","input":"x"}}', "invalid model name")
        for name in ("bad name", "a/b/c/d", "x:", ":x", "-x", "none@sha256:abc")
        for path in ("/api/chat", "/api/generate", "/api/embed", "/api/embeddings", "/api/show")
    ),
    bad(
        "/api/chat",
        f'{{"model":"m1:local:cloud",{X}}}',
        r"use either :local or :cloud, not both: \"m1:local:cloud\"",
    ),
    *(
        served(name)
        for name in (
            "m1",
            "M1",
            "m1:latest",
            "m1:LATEST",
            "library/m1",
            "Library/M1",
            "registry.ollama.ai/library/m1:latest",
            "REGISTRY.ollama.ai/library/m1",
            "https://registry.ollama.ai/library/m1",
            " m1 ",
            "m1:local",
            "m1:latest:local",
        )
    ),
    *(
        legacy(name)
        for name in ("m1", "m1:latest", "library/m1", " m1 ", "m1:local", "m1:latest:local")
    ),
    *(
        bad("/api/chat", f'{{"model":"{name}",{X}}}', f"model '{name}' not found", 404)
        for name in ("other/m1", "ollama.com/library/m1")
    ),
    *(
        bad(
            "/api/embeddings",
            f'{{"model":"{name}","prompt":"x"}}',
            rf"model \"{name}\" not found, try pulling it first",
            404,
        )
        for name in ("m1:LATEST", "Library/M1", "REGISTRY.ollama.ai/library/m1", "other/m1")
    ),
]
LENIENT = [
    Probe("POST", "/api/chat", body, 200, JSON, f'{{"model":"m1",{HELLO}')
    for body in (
        f'{{"model":"none","model":"m1",{X},"stream":false}}',
        '{"MODEL":"m1","Messages":[{"Role":"user","content":"x"}],"Stream":false}',
        f'{{"model":"m1",{X},"stream":false}} trailing',
        f'{{"model":"m1",{X},"stream":false}}{{"model":"none"}}',
        f'{{"model":"m1","foo":{{"a":1}},{X},"stream":false,"options":{{"nonsense":1}}}}',
        f'{{"model":"m1",{X},"stream":false,"format":"xml"}}',
        f'{{"model":"m1","model":null,{X},"stream":false}}',
    )
]
REFUSED = [
    bad(
        "/api/chat",
        f'{{"model":"m1",{X},"options":{{"num_ctx":"big"}}}}',
        r"option \"num_ctx\" must be of type integer",
        500,
    ),
    bad(
        "/api/chat",
        f'{{"model":"m1",{X},"keep_alive":"xyz"}}',
        r"time: invalid duration \"xyz\"",
    ),
    bad(
        "/api/chat",
        f'{{"model":"m1",{X},"think":"ultra"}}',
        r"invalid think value: \"ultra\" (must be \"high\", \"medium\", \"low\", \"max\", true,"
        " or false)",
    ),
    bad(
        "/api/chat",
        f'{{"model":"m1",{X},"stream":"false"}}',
        "json: cannot unmarshal string into Go struct field ChatRequest.stream of type bool",
    ),
    bad("/api/chat", b"\x1f\x8bjunk", r"invalid character '\\x1f' looking for beginning of value"),
    bad(
        "/api/chat", b'\xef\xbb\xbf{"m":1}', "invalid character 'ï' looking for beginning of value"
    ),
    v1_bad(
        "/v1/chat/completions",
        b"\x1f\x8bjunk",
        r"invalid character '\\x1f' looking for beginning of value",
    ),
    bad("/api/chat", f'{{"model":"m1",{X},"think":true}}', r"\"m1\" does not support thinking"),
    bad(
        "/api/generate",
        '{"model":"m1","prompt":"a","suffix":"b"}',
        "registry.ollama.ai/library/m1:latest does not support insert",
    ),
    bad(
        "/api/chat",
        f'{{"model":"m1",{X},"top_logprobs":21}}',
        "top_logprobs must be between 0 and 20",
    ),
    bad(
        "/api/generate",
        '{"model":"m1","prompt":"a","raw":true,"system":"s"}',
        "raw mode does not support template, system, or context",
    ),
    Probe(
        "POST",
        "/v1/chat/completions",
        f'{{"model":"m1",{X},"tools":[{{"type":"function"}}]}}',
        400,
        PLAIN_JSON,
        v1_error("registry.ollama.ai/library/m1:latest does not support tools") + "\n",
    ),
    v1_bad(
        "/v1/chat/completions",
        '{"model":"m1","messages":[{"role":"user","content":[{"type":"image_url",'
        '"image_url":{"url":"https://x/y.png"}}]}]}',
        "image URLs are not currently supported, please use base64 encoded data instead",
    ),
    v1_bad(
        "/v1/completions",
        '{"model":"m1","prompt":["a","b"]}',
        "json: cannot unmarshal array into Go struct field CompletionRequest.prompt of type string",
    ),
]
ERRORS = [*BODIES, *MISSING, *NAMES, *LENIENT, *REFUSED]
