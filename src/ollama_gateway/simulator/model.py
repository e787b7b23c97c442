"""A model the simulator hosts: what it says, how fast, and what the listings tell about it.

A value; what a server knows about it at run time (loaded or not, until when) is the simulator's.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping

import attrs

from ollama_gateway.simulator.names import parse

SIZE = 2_019_393_189
MODIFIED = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def _short(name: str) -> str:
    return parse(name).short


@attrs.frozen
class Call:
    """A call of a tool that a model makes where the tool is offered."""

    name: str
    arguments: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen
class Model:
    """A hosted model.

    Args:
        name: as `ollama list` shows it; `:latest` is filled in where a tag is missing.
        tokens: what it answers, one chunk each, whatever it is asked.
        parent: the model that it was created from.
        remote: the model of ollama.com that it stands for; nothing runs it here.
        thinking: what it thinks before, one chunk each, where it has the capability and may.
        calls: the tools it calls in place of an answer, where the request offers them.
        prompt_tokens: the size of every prompt; None counts each (`prompts.py`).
        capabilities: of `completion`, `tools`, `insert`, `vision`, `embedding`, `thinking`.
        digest: of the manifest, 64 hex digits; made from the name where not given.
        weights: of the file with the weights, likewise; models that share it share a runner.
        size: bytes.
        modified_at: with a time zone; listings are sorted by it, newest first.
        context_length: tokens.
        embedding_length: what `/api/show` claims.
        vector_length: how many figures an embedding really has.
        hidden_prompt: tokens of a system prompt of its own, added to what each request reports.
        cached_prompt: tokens of each prompt that its runner's cache had, 0 for none of them; None
            where that is not told, as before Ollama told it.
        is_jinja: its template is one of Jinja, so that calls of tools come with the last chunk.
        load_time: seconds a request waits for the load when the model is not loaded.
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
    is_jinja: bool = attrs.field(default=False, kw_only=True)
    load_time: float = attrs.field(default=0, kw_only=True)
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
