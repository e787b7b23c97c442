"""A fleet for real clients, and the audit record of one request."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import anthropic
import attrs
import ollama
import openai

from ollama_gateway.keys.key import KeyLimits
from tests.smoke.asking import anthropic_client, ollama_client, openai_client
from tests.smoke.fleet import Fleet, fleet

AGENT, PLAIN, SLOW, DOOMED = "agent:1", "plain:1", "slow:1", "doomed:1"
PACE: Final = ("--tokens", "5", "--token-delay", "1ms")
SIMULATORS: Final = {
    "a": ("--model", AGENT, *PACE, "--thinking", "2", "--tool", "get_weather"),
    "b": ("--model", PLAIN, *PACE),
    "c": ("--model", SLOW, "--tokens", "5000", "--token-delay", "20ms"),
    "d": ("--model", DOOMED, "--tokens", "5000", "--token-delay", "20ms"),
}
"""Backends: one thinks and calls tools, one does neither, one is slow, one will be killed."""
TEXT: Final = "Hello from a simulated model,"
THOUGHTS: Final = "Hello from"
PICTURE: Final = base64.b64encode(b"\x89PNG").decode()
PARAMETERS: Final = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOLS: Final[Any] = [
    {
        "type": "function",
        "function": {"name": "get_weather", "description": "d", "parameters": PARAMETERS},
    }
]

_names = count()


@attrs.define
class Visitor:
    """The clients of one key, whose only audit record is that of their request."""

    fleet: Fleet
    name: str = attrs.field(factory=lambda: f"visitor-{next(_names)}")
    key: str = attrs.field(init=False)
    clients: ExitStack = attrs.field(factory=ExitStack)
    """The stack that closes the clients."""

    def __attrs_post_init__(self) -> None:
        _, self.key = self.fleet.create_key(self.name, KeyLimits())

    @property
    def ollama(self) -> ollama.Client:
        """Return Ollama's client."""
        client = ollama_client(self.fleet, self.key)
        self.clients.enter_context(client)
        return client

    @property
    def openai(self) -> openai.OpenAI:
        """Return OpenAI's client, without its own retries."""
        return self.clients.enter_context(openai_client(self.fleet, self.key))

    @property
    def anthropic(self) -> anthropic.Anthropic:
        """Return Anthropic's client, without its own retries."""
        return self.clients.enter_context(anthropic_client(self.fleet, self.key))

    def metered(self) -> tuple[Any, ...]:
        """Return outcome, prompt and completion tokens and their source, of the one request."""
        line = self.fleet.gateway.wait_for(f'"key_name": "{self.name}"')
        record = json.loads(line)
        names = ("outcome", "prompt_tokens", "completion_tokens", "tokens_source")
        return tuple(record[name] for name in names)


@contextmanager
def visited(directory: Path) -> Iterator[Fleet]:
    """Run the fleet during the block."""
    with fleet(directory, SIMULATORS) as started:
        yield started
