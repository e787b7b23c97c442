"""Conversations of five turns with unchanged client libraries, over real sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.smoke.asking import MODEL, anthropic_client, ask, ollama_client, openai_client
from tests.smoke.fleet import Fleet, fleet
from tests.support.patience import wait_until

TURNS = 5
TALKS = 6
FAST = ("--model", MODEL, "--cache", "1000000", "--tokens", "4", "--parallel", "1")
LONG = "word " * 2000

Say = Callable[[Fleet, list[Any]], str]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Three equal machines with prefix caches."""
    data: Path = tmp_path_factory.mktemp("data")
    often = {"GATEWAY_DISCOVERY_INTERVAL": "100ms"}
    with fleet(data, dict.fromkeys("abc", FAST), 1, "equal", **often) as started:
        for port in started._ports.values():
            assert ask(port, "/api/generate", body={"model": MODEL}).status == 200
        gateway = started.gateways[0]
        wait_until(
            lambda: all(one["loaded"] for one in gateway.status()["backends"]), gateway.status
        )
        yield started


def by_ollama(of: Fleet, messages: list[Any]) -> str:
    """Stream a chat with Ollama's client."""
    with ollama_client(of) as client:
        parts = client.chat(MODEL, messages, stream=True)
        return "".join(part.message.content or "" for part in parts)


def by_openai(of: Fleet, messages: list[Any]) -> str:
    """Stream a chat with OpenAI's client."""
    with openai_client(of) as client:
        chunks = client.chat.completions.create(model=MODEL, messages=messages, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def by_anthropic(of: Fleet, messages: list[Any]) -> str:
    """Stream a message with Anthropic's client."""
    with (
        anthropic_client(of) as client,
        client.messages.stream(model=MODEL, messages=messages, max_tokens=99) as stream,
    ):
        return "".join(stream.text_stream)


_ASKED = count()


@pytest.mark.parametrize("say", [by_ollama, by_openai, by_anthropic])
def test_each_conversation_stays_on_its_machine(three: Fleet, say: Say) -> None:
    """From the second turn on its prompt is cached, whichever client sends it again."""
    before = len(three.records(0))
    talks = [[{"role": "user", "content": f"{next(_ASKED)} {LONG}"}] for _ in range(TALKS)]
    for _ in range(TURNS):
        for messages in talks:
            answer = say(three, messages)
            messages += [
                {"role": "assistant", "content": answer},
                {"role": "user", "content": "and then?"},
            ]
    records = three.records(before + TURNS * TALKS)[before:]

    for number in range(TALKS):
        turns = records[number::TALKS]
        assert len({turn["backend"] for turn in turns}) == 1
        assert [turn["affinity"] for turn in turns] == ["new"] + ["kept"] * (TURNS - 1)
        assert all(turn["cached_tokens"] > 2000 for turn in turns[1:])
    assert len({record["backend"] for record in records}) > 1
