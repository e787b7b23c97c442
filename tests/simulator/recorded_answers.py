"""What the real server was recorded to answer when it runs a model."""

from __future__ import annotations

from tests.simulator.probe import (
    FIGURES,
    JSON,
    NDJSON,
    PLAIN_JSON,
    SSE,
    Probe,
    X,
    bad,
    v1_bad,
    v1_error,
)

USAGE = '"usage":{"prompt_tokens":11,"completion_tokens":2,"total_tokens":13}'
NO_USAGE = '"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'
CHUNK = (
    'data: {"id":"chatcmpl-0","object":"chat.completion.chunk","created":0,'
    '"model":"m1","system_fingerprint":"fp_ollama","choices":['
)
CHAT_EVENTS = (
    CHUNK
    + '{"index":0,"delta":{"role":"assistant","content":"Hel"},"finish_reason":null}]}\n\n'
    + CHUNK
    + '{"index":0,"delta":{"content":"lo"},"finish_reason":null}]}\n\n'
    + CHUNK
    + '{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
END = "data: [DONE]\n\n"
COMPLETION = 'data: {"id":"cmpl-0","object":"text_completion","created":0,"choices":['
COMPLETION_TAIL = '],"model":"m1","system_fingerprint":"fp_ollama"'


def completion_events(usage: str = "") -> str:
    """The text events of `/v1/completions`."""
    pieces = (("Hel", "null"), ("lo", "null"), ("", '"stop"'))
    return "".join(
        f'{COMPLETION}{{"text":"{text}","index":0,"finish_reason":{reason}}}'
        f"{COMPLETION_TAIL}{usage}}}\n\n"
        for text, reason in pieces
    )


SERVED = [
    Probe(
        "POST",
        "/api/chat",
        body,
        200,
        NDJSON,
        '{"model":"m1","created_at":"T","message":{"role":"assistant","content":"Hel"},'
        '"done":false}\n'
        '{"model":"m1","created_at":"T","message":{"role":"assistant","content":"lo"},'
        '"done":false}\n'
        '{"model":"m1","created_at":"T","message":{"role":"assistant","content":""},'
        f'"done":true,"done_reason":"stop",{FIGURES}}}\n',
        "chunked",
    )
    for body in (
        f'{{"model":"m1",{X}}}',
        f'{{"model":"m1",{X},"stream":true}}',
        f'{{"model":"m1",{X},"stream":null}}',
    )
] + [
    Probe(
        "POST",
        "/api/generate",
        '{"model":"m1","prompt":"hi"}',
        200,
        NDJSON,
        '{"model":"m1","created_at":"T","response":"Hel","done":false}\n'
        '{"model":"m1","created_at":"T","response":"lo","done":false}\n'
        '{"model":"m1","created_at":"T","response":"","done":true,"done_reason":"stop",'
        f'"context":[C],{FIGURES}}}\n',
        "chunked",
    ),
    Probe(
        "POST",
        "/api/generate",
        '{"model":"m1","prompt":"hi","raw":true,"stream":false}',
        200,
        JSON,
        '{"model":"m1","created_at":"T","response":"Hello","done":true,"done_reason":"stop",'
        f"{FIGURES}}}",
    ),
    Probe(
        "POST",
        "/api/generate",
        '{"model":"m1","prompt":"hi","stream":false}',
        200,
        JSON,
        '{"model":"m1","created_at":"T","response":"Hello","done":true,"done_reason":"stop",'
        f'"context":[C],{FIGURES}}}',
    ),
    Probe(
        "POST",
        "/v1/chat/completions",
        f'{{"model":"m1",{X},"stream":true}}',
        200,
        SSE,
        CHAT_EVENTS + END,
        "chunked",
    ),
    Probe(
        "POST",
        "/v1/chat/completions",
        f'{{"model":"m1",{X},"stream":true,"stream_options":{{"include_usage":true}}}}',
        200,
        SSE,
        f"{CHAT_EVENTS}{CHUNK}],{USAGE}}}\n\n{END}",
        "chunked",
    ),
    Probe(
        "POST",
        "/v1/chat/completions",
        f'{{"model":"m1",{X}}}',
        200,
        PLAIN_JSON,
        '{"id":"chatcmpl-0","object":"chat.completion","created":0,"model":"m1",'
        '"system_fingerprint":"fp_ollama","choices":[{"index":0,"message":'
        f'{{"role":"assistant","content":"Hello"}},"finish_reason":"stop"}}],{USAGE}}}\n',
    ),
    Probe(
        "POST",
        "/v1/completions",
        '{"model":"m1","prompt":"hi","stream":true}',
        200,
        SSE,
        completion_events() + END,
        "chunked",
    ),
    Probe(
        "POST",
        "/v1/completions",
        '{"model":"m1","prompt":"hi","stream":true,"stream_options":{"include_usage":true}}',
        200,
        SSE,
        f"{completion_events(f',{NO_USAGE}')}{COMPLETION}{COMPLETION_TAIL},{USAGE}}}\n\n{END}",
        "chunked",
    ),
    Probe(
        "POST",
        "/v1/completions",
        '{"model":"m1","prompt":"hi"}',
        200,
        PLAIN_JSON,
        '{"id":"cmpl-0","object":"text_completion","created":0,"model":"m1",'
        '"system_fingerprint":"fp_ollama","choices":[{"text":"Hello","index":0,'
        f'"finish_reason":"stop"}}],{USAGE}}}\n',
    ),
]
LOADS = [
    Probe(
        "POST",
        "/api/chat",
        '{"model":"m1"}',
        expected='{"model":"m1","created_at":"T","message":{"role":"assistant","content":""},'
        '"done":true,"done_reason":"load"}',
    ),
    Probe(
        "POST",
        "/api/generate",
        '{"model":"m1"}',
        expected='{"model":"m1","created_at":"T","response":"","done":true,"done_reason":"load"}',
    ),
    *(
        Probe(
            "POST",
            "/api/generate",
            f'{{"model":"m1","keep_alive":{zero}}}',
            expected='{"model":"m1","created_at":"T","response":"","done":true,'
            '"done_reason":"unload"}',
        )
        for zero in ("0", '"0"', '"0s"')
    ),
    Probe(
        "POST",
        "/v1/completions",
        '{"model":"m1","prompt":""}',
        200,
        PLAIN_JSON,
        '{"id":"cmpl-0","object":"text_completion","created":0,"model":"m1",'
        '"system_fingerprint":"fp_ollama","choices":[{"text":"","index":0,'
        f'"finish_reason":"load"}}],{NO_USAGE}}}\n',
    ),
    Probe(
        "POST",
        "/v1/completions",
        '{"model":"m1","prompt":"","stream":true}',
        200,
        SSE,
        f'{COMPLETION}{{"text":"","index":0,"finish_reason":"load"}}{COMPLETION_TAIL}}}\n\n{END}',
    ),
]
EMBEDDINGS = [
    Probe(
        "POST",
        "/api/embed",
        '{"model":"m1","input":"a"}',
        expected='{"model":"m1","embeddings":[[V]],"total_duration":0,"load_duration":0,'
        '"prompt_eval_count":11}',
    ),
    Probe(
        "POST",
        "/api/embed",
        '{"model":"m1","input":["a","b"]}',
        expected='{"model":"m1","embeddings":[[V],[V]],"total_duration":0,"load_duration":0,'
        '"prompt_eval_count":22}',
    ),
    Probe("POST", "/api/embed", '{"model":"m1"}', expected='{"model":"m1","embeddings":[]}'),
    bad("/api/embed", '{"model":"m1","input":[1,2]}', "invalid input type"),
    Probe("POST", "/api/embeddings", '{"model":"m1"}', expected='{"embedding":[]}'),
    Probe(
        "POST",
        "/v1/embeddings",
        '{"model":"m1","input":"a"}',
        200,
        PLAIN_JSON,
        '{"object":"list","data":[{"object":"embedding","embedding":[V],"index":0}],'
        '"model":"m1","usage":{"prompt_tokens":11,"total_tokens":11}}\n',
    ),
    v1_bad(
        "/v1/embeddings",
        '{"model":"m1","input":"a","encoding_format":"hex"}',
        "Invalid value for 'encoding_format' = hex. Supported values: ['float', 'base64'].",
    ),
    Probe(
        "POST",
        "/v1/embeddings",
        '{"model":"m1","input":[1,2,3]}',
        400,
        PLAIN_JSON,
        v1_error("invalid input type") + "\n",
    ),
]
ANSWERS = [*SERVED, *LOADS, *EMBEDDINGS]
