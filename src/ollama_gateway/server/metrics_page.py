"""The answer to `/metrics`, in the form and the encoding that the client asks for."""

from __future__ import annotations

from collections.abc import Iterable

from ollama_gateway.flow.ask import Ask
from ollama_gateway.metrics.exposition import form_for, render, wants_gzip
from ollama_gateway.metrics.families import SampleFamily
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.headers import Headers


async def respond_with_page(ask: Ask, families: Iterable[SampleFamily]) -> None:
    """Answer with a page of these metrics; others go on while it is made."""
    form, gzip = form_for(ask.headers), wants_gzip(ask.headers)
    page = await in_turns(render(families, form, gzip=gzip))
    headers: Headers = [
        (b"content-type", form.content_type.encode()),
        (b"vary", b"Accept, Accept-Encoding"),
    ]
    if gzip:
        headers.append((b"content-encoding", b"gzip"))
    await ask.downstream.respond(200, headers, page)
