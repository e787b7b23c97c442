"""A model the simulator hosts: its answers, its speed, and its description in listings.

This is a value; the server holds the state at run time (whether it is loaded, and until when).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import math
from collections.abc import Mapping

import attrs

from ollama_gateway.simulator.names import parse

SIZE = 2_019_393_189
MODIFIED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def _short(name: str) -> str:
    return parse(name).short


@attrs.frozen
class Call:
    """A tool call that a model makes if the request offers the tool."""

    name: str
    arguments: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen
class Model:
    """A hosted model.

    Args:
        name: as `ollama list` shows it; a missing tag becomes `:latest`.
        tokens: its answer to every request, one chunk each.
        parent: the model that it was created from.
        remote: the model of ollama.com that it stands for; nothing runs it here.
        thinking: its thoughts before the answer, one chunk each, if it has the capability and may
            think.
        calls: the tools it calls in place of an answer, if the request offers them.
        prompt_tokens: the size of every prompt; None counts each (`prompts.py`).
        capabilities: of `completion`, `tools`, `insert`, `vision`, `embedding`, `thinking`.
        digest: of the manifest, 64 hex digits; derived from the name by default.
        weights: digest of the file with the weights, likewise; models that share it share a runner.
        size: bytes.
        modified_at: with a time zone; listings are sorted by it, newest first.
        context_length: tokens.
        embedding_length: the figure in `/api/show`.
        vector_length: the length of its embeddings.
        hidden_prompt: tokens of its own system prompt, added to every reported prompt.
        cached_prompt: tokens of each prompt that its runner had cached, 0 for none; None if not
            reported, as by older Ollamas.
        cache: tokens of its runner's host cache, beside what the slots hold (`prefix_cache.py`);
            None if the runner reads every prompt from its first token on.
        tells_cached: whether it reports how many tokens `cache` has saved.
        is_jinja: its template is a Jinja one, so tool calls come with the last chunk.
        load_time: seconds a request waits for the load when the model is not loaded.
        prompt_speed: tokens of a prompt, without cached ones, that it reads in a second.
        first_token: seconds from there to the first token.
        between_tokens: seconds between one token and the next.

    """

    name: str = attrs.field(converter=_short)
    tokens: tuple[str, ...] = ("Hel", "lo")
    prompt_tokens: int | None = None
    capabilities: tuple[str, ...] = ("completion",)
    digest: str = attrs.field(kw_only=True)
    weights: str = attrs.field(kw_only=True)
    size: int = attrs.field(default=SIZE, kw_only=True)
    modified_at: dt.datetime = attrs.field(default=MODIFIED, kw_only=True)
    context_length: int = attrs.field(default=8192, kw_only=True)
    embedding_length: int = attrs.field(default=4096, kw_only=True)
    vector_length: int = attrs.field(default=8, kw_only=True)
    hidden_prompt: int = attrs.field(default=0, kw_only=True)
    cached_prompt: int | None = attrs.field(default=None, kw_only=True)
    cache: int | None = attrs.field(default=None, kw_only=True)
    tells_cached: bool = attrs.field(default=True, kw_only=True)
    is_jinja: bool = attrs.field(default=False, kw_only=True)
    load_time: float = attrs.field(default=0, kw_only=True)
    prompt_speed: float = attrs.field(default=math.inf, kw_only=True)
    first_token: float = attrs.field(default=0, kw_only=True)
    between_tokens: float = attrs.field(default=0, kw_only=True)
    parent: str = attrs.field(default="", kw_only=True)
    remote: str = attrs.field(default="", kw_only=True)
    thinking: tuple[str, ...] = attrs.field(default=(), kw_only=True)
    calls: tuple[Call, ...] = attrs.field(default=(), kw_only=True)

    @digest.default
    def _default_digest(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    @weights.default
    def _default_weights(self) -> str:
        return self.digest
