"""The routes that speak with ollama.com: no user is signed in, and the cloud is off."""

from __future__ import annotations

from ollama_gateway.simulator.dialect import JSON_UTF8, NATIVE, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.gojson import dumps
from ollama_gateway.simulator.library import Library

SIGN_IN = "https://ollama.com/connect?name=simulated&key=c3NoLWVkMjU1MTkgc2ltdWxhdGVk"
UNAUTHORIZED = 401


async def me(_library: Library, exchange: Exchange) -> None:
    """POST /api/me."""
    told = {"error": "unauthorized", "signin_url": SIGN_IN}
    await exchange.respond(UNAUTHORIZED, dumps(told), JSON_UTF8)


async def recommendations(_library: Library, exchange: Exchange) -> None:
    """GET /api/experimental/model-recommendations."""
    await NATIVE.answer(exchange, {"recommendations": []})


async def search(_library: Library, exchange: Exchange) -> None:
    """POST /api/experimental/web_search; no query is searched."""
    if not exchange.seen.body:
        raise Refusal(400, "missing request body")
    raise Refusal(403, "ollama cloud is disabled: web search is unavailable")
