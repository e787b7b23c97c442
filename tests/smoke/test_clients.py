"""Unchanged client libraries over real sockets."""

from __future__ import annotations

import urllib.request

import ollama
import openai
import pytest

from tests.smoke.asking import MODEL, SAY_HI, ask, ollama_client, openai_client
from tests.smoke.fleet import Fleet

UNION = {"shared:1", "only-a:1", "only-b:1"}


def native_chat(fleet: Fleet, model: str = "shared:1") -> str:
    """Return the text of one streamed chat."""
    with ollama_client(fleet) as client:
        parts = client.chat(model, SAY_HI, stream=True)
        return "".join(part.message.content or "" for part in parts)


def test_ollamas_client_lists_the_union_and_streams(shared_fleet: Fleet) -> None:
    """`list` shows each model once, and a chat streams from a backend that has its model."""
    with ollama_client(shared_fleet) as client:
        listed = client.list().models

    assert sorted(str(m.model) for m in listed) == sorted(UNION)
    for model in UNION:
        assert native_chat(shared_fleet, model)


def test_ollamas_client_does_the_rest(shared_fleet: Fleet) -> None:
    """Generate, show, ps and errors work as with one Ollama."""
    with ollama_client(shared_fleet) as client:
        assert client.generate("shared:1", "hi").response
        assert client.show("shared:1").modelinfo is not None
        assert {m.model for m in client.ps().models} <= UNION
        with pytest.raises(ollama.ResponseError, match="not available") as caught:
            client.chat("nobody-has-this", SAY_HI)
        assert caught.value.status_code == 403


def test_ollamas_client_says_that_a_key_is_wrong(shared_fleet: Fleet) -> None:
    """A wrong key is an error of the client."""
    with (
        ollama_client(shared_fleet, key="wrong-key-wrong-key-wrong") as client,
        pytest.raises(ollama.ResponseError, match="invalid API key") as caught,
    ):
        client.list()
    assert caught.value.status_code == 401


def test_openais_client_lists_the_union_and_streams(shared_fleet: Fleet) -> None:
    """Models, streamed and whole chats, and errors, as openai's client understands them."""
    with openai_client(shared_fleet) as client:
        assert {model.id for model in client.models.list()} == UNION
        chunks = client.chat.completions.create(model=MODEL, messages=SAY_HI, stream=True)
        streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        whole = client.chat.completions.create(model=MODEL, messages=SAY_HI)

        assert streamed == whole.choices[0].message.content != ""
        assert whole.usage is not None
        with pytest.raises(openai.PermissionDeniedError):
            client.models.retrieve("nobody-has-this")


def test_a_key_in_the_path_serves_clients_without_headers(shared_fleet: Fleet) -> None:
    """A key in the path works, as in `OLLAMA_HOST=http://gateway/k/KEY`, and is not logged."""
    base = f"{shared_fleet.url}/k/{shared_fleet.key}"
    listed = ask(shared_fleet.port, f"/k/{shared_fleet.key}/api/tags").document
    head = urllib.request.Request(f"{base}/", method="HEAD")  # noqa: S310
    with urllib.request.urlopen(head) as response:  # noqa: S310
        assert response.status == 200

    assert {entry["name"] for entry in listed["models"]} == UNION
    assert not any(shared_fleet.key in line for line in shared_fleet.gateway.lines)


def test_the_death_of_a_backend_is_not_noticed(own_fleet: Fleet) -> None:
    """With the first backend killed, every client's next chat streams from the second."""
    before = native_chat(own_fleet)
    own_fleet.simulators["a"].popen.kill()
    own_fleet.simulators["a"].popen.wait()

    assert native_chat(own_fleet) == before
    with openai_client(own_fleet) as client:
        chunks = client.chat.completions.create(model=MODEL, messages=SAY_HI, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == before
    lines = own_fleet.records(3)
    assert {line["outcome"] for line in lines} == {"completed"}
    assert lines[-1]["backend"] == "b"
