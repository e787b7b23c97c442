"""A key with aliases of its own beside those of the settings, and what it may reach."""

from __future__ import annotations

import httpx

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Listing
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.keys.key import Principal
from ollama_gateway.models.aliases import Aliases, alias_of
from ollama_gateway.simulator.names import parse
from ollama_gateway.wire.names import ModelName
from tests.backends.asking import UNUSED
from tests.backends.test_catalog import entry

ALIASES = Aliases(
    (
        alias_of("gpt-4o", ["m2", "m1", "me/m2:v1"]),
        alias_of("closed", ["m2"]),
        alias_of("granted", ["m3", "m3:cloud", "far:1"]),
        alias_of("far", ["far:1", "m1:cloud"]),
        alias_of("claude-*", ["me/m2:v1"]),
        alias_of("claude-closed*", ["m2"]),
    )
)
CALLER = Principal(
    "id",
    "name",
    ("m1", "me/m2:v1", "alias:granted", "far:1", "alias:*cloud"),
    frozenset({"inference", "embeddings", "read"}),
    aliases=Aliases((alias_of("own", ["m2", "m1"]), alias_of("closed-*", ["m2"]))),
)
SERVED = {parse(name).folded for name in ("m1", "me/m2:v1")}
GRANTED = {parse("m3").folded}
BACKEND = Backend("a", httpx.URL("http://h"), UNUSED)
NAMES = Resolver(Backends.of([BACKEND]), ALIASES)
BACKEND.take_over(
    Listing(
        "0.33.0",
        {
            ModelName.parse(model["name"]).key: model
            for model in (entry("m1:latest"), {**entry("far:1"), "remote_host": "h"})
        },
        {},
    ),
    now=0,
)
