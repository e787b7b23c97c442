"""Vectors are equal for equal texts and normalised, on all three routes."""

from __future__ import annotations

import base64
import math
import struct

import pytest

from ollama_gateway.simulator import Model, Simulator, memory_server
from tests.simulator.client import ask

CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}


async def test_vectors_are_the_same_everywhere() -> None:
    """Equal texts give equal vectors of length 1 on every server; base64 holds the same ones."""
    vectors = []
    for _ in range(2):
        async with memory_server(Simulator([Model("e")])) as connect:
            stream = await connect()
            body = {"model": "e", "input": ["a", "b"]}
            vectors.append((await ask(stream, "POST", "/api/embed", body)).document["embeddings"])
            coded = await ask(
                stream, "POST", "/v1/embeddings", body | {"encoding_format": "base64"}
            )
            short = await ask(stream, "POST", "/api/embed", body | {"dimensions": 3})

    assert vectors[0] == vectors[1]
    assert vectors[0][0] != vectors[0][1]
    assert [math.hypot(*vector) for vector in vectors[0]] == pytest.approx([1, 1])
    packed = base64.b64decode(coded.document["data"][0]["embedding"])
    assert struct.unpack("<8f", packed) == pytest.approx(vectors[0][0])
    assert [len(vector) for vector in short.document["embeddings"]] == [3, 3]
    assert math.hypot(*short.document["embeddings"][0]) == pytest.approx(1)


async def test_an_embedding_model_neither_chats_nor_generates() -> None:
    """A request beyond a model's capabilities is refused under the name it used."""
    async with memory_server(Simulator([Model("bert", capabilities=("embedding",))])) as connect:
        stream = await connect()
        chat = await ask(stream, "POST", "/api/chat", CHAT | {"model": "bert"})
        prompt = {"model": "bert", "prompt": "x"}
        generated = await ask(stream, "POST", "/api/generate", prompt)

    assert (chat.status, chat.body) == (400, b'{"error":"\\"bert\\" does not support chat"}')
    assert generated.body == b'{"error":"\\"bert\\" does not support generate"}'
