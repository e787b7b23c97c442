"""The metrics of requests, tokens, the race, and backends with their models."""

from __future__ import annotations

from typing import Final

from ollama_gateway.metrics.definitions import (
    FIRST_CHUNK_SECONDS,
    LOAD_SECONDS,
    REQUEST_SECONDS,
    SPEEDS,
    counter,
    gauge,
    histogram,
)

# Requests: how many, how they ended, how long they took.
REQUESTS: Final = counter(
    "requests",
    "Requests with a valid key.",
    *("endpoint", "model", "backend", "outcome"),
    most=2500,
)
REFUSED: Final = counter(
    "refused", "Requests that were refused before a key was known.", "reason", most=60
)
LIMITED: Final = counter("limited", "Requests rejected by a limit of their key.", "limit", most=20)
FAILURES: Final = counter(
    "request_failures",
    "Requests with a valid key that were refused, failed, were killed, or lost their client.",
    *("outcome", "reason"),
    most=150,
)
DURATION: Final = histogram(
    "request_duration_seconds",
    "Seconds from arrival to the end of requests with a valid key.",
    *("endpoint", "outcome"),
    bounds=REQUEST_SECONDS,
    most=100,
)
MODEL_DURATION: Final = histogram(
    "model_request_duration_seconds",
    "Seconds from arrival to the end of requests that a backend answered.",
    *("model", "backend"),
    bounds=REQUEST_SECONDS,
    most=200,
)
FIRST_CHUNK: Final = histogram(
    "first_chunk_seconds",
    "Seconds from arrival to the first good chunk of streams.",
    *("endpoint", "backend"),
    bounds=FIRST_CHUNK_SECONDS,
    most=200,
)
LINE_SECONDS: Final = histogram(
    "line_seconds",
    "Seconds that requests waited in line for a slot, whether they got one or not.",
    "result",
    bounds=FIRST_CHUNK_SECONDS,
    most=4,
)
IN_STAGE: Final = gauge(
    "requests_in_stage", "Running requests by where they are.", "stage", most=20
)
WAITING: Final = gauge("waiting", "Requests that wait for a free slot.")
CONNECTIONS: Final = gauge("connections", "Open client connections.")

# Tokens.
PROMPT_TOKENS: Final = counter(
    "prompt_tokens",
    "Tokens of prompts by what the backend tells of its cache: hit, miss, or unknown.",
    *("model", "backend", "cache"),
    most=1200,
)
TOKENS: Final = counter(
    "tokens",
    "Tokens by kind: input (read), cached (not read again), output.",
    *("model", "backend", "kind"),
    most=1500,
)
SPEED: Final = histogram(
    "output_tokens_per_second",
    "Tokens a second of completed streams, from their first chunk to their end.",
    *("model", "backend"),
    bounds=SPEEDS,
    most=120,
)
SURPRISES: Final = counter(
    "prompt_surprises",
    "Prompts that had more tokens than were reserved for them.",
    "model",
    most=300,
)

# The race.
ATTEMPTS: Final = counter("attempts", "Requests made to backends.", "backend", "result", most=600)
HEDGES: Final = counter(
    "hedges",
    "Second attempts beside a slow one: started, won, or the reason why none was started.",
    "result",
    most=20,
)
RETRIES: Final = counter(
    "retries",
    "Further attempts at failing backends: started, or refused by the retry budget.",
    "result",
    most=4,
)
AFFINITY: Final = counter(
    "affinity",
    "Requests that a backend answered: whether their conversation kept its backend.",
    "result",
    most=8,
)
BREAKER_CHANGES: Final = counter(
    "breaker_changes",
    "Circuit breakers that opened or closed, with the reason.",
    *("backend", "change", "reason"),
    most=400,
)

# Backends and models.
BACKEND_UP: Final = gauge(
    "backend_up", "1 while a backend is up.", "backend", most=100, merge="max"
)
BACKEND_PAUSED: Final = gauge(
    "backend_paused", "1 while a backend is paused.", "backend", most=100, merge="min"
)
IN_FLIGHT: Final = gauge(
    "backend_in_flight",
    "Running attempts that occupy a slot of the backend.",
    "backend",
    most=100,
)
SLOTS: Final = gauge(
    "backend_slots", "Requests that a backend may serve at once; 0 is no cap.", "backend", most=100
)
BACKEND_INFO: Final = gauge(
    "backend_info",
    "1, with the version that a backend has.",
    "backend",
    "version",
    most=150,
    merge="max",
)
BREAKER_STATE: Final = gauge(
    "breaker_state",
    "The state of a backend's own breaker: 0 closed, 1 half-open, 2 open.",
    "backend",
    most=100,
    merge="max",
)
ILL_MODELS: Final = gauge(
    "backend_ill_models",
    "Models of a backend whose own breaker is not closed.",
    "backend",
    most=100,
    merge="max",
)
UNSERVED_MODELS: Final = gauge(
    "models_without_backend",
    "Models that only backends list which are down or paused.",
    merge="min",
)
LOADED_BYTES: Final = gauge(
    "loaded_model_bytes",
    "Memory of models that backends have loaded.",
    *("model", "backend"),
    most=300,
    merge="max",
)
LOADED_VRAM: Final = gauge(
    "loaded_model_vram_bytes",
    "The part of it on GPUs.",
    *("model", "backend"),
    most=300,
    merge="max",
)
LOADS: Final = counter(
    "model_loads", "Loads of models that requests have caused.", "model", "backend", most=500
)
LOADING: Final = histogram(
    "model_load_seconds",
    "Seconds from the attempt that loads a model to the first chunk of its stream.",
    "backend",
    bounds=LOAD_SECONDS,
    most=60,
)
