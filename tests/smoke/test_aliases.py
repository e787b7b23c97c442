"""Clients with names that no machine has, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import anthropic
import openai
import pytest

from tests.smoke.asking import SAY_HI, anthropic_client, ask, ollama_client, openai_client
from tests.smoke.fleet import TWO, Fleet, fleet

ALIASES: Final = {
    "gpt-4o": ["gone:1", "shared:1"],
    "claude-sonnet-4-5": "only-a:1",
    "claude-haiku-4-5-20251001": "only-b:1",
    "o*-mini": "shared:1",
    "only-b:1": ["only-b:1", "shared:1"],
}
EXACT: Final = ["gpt-4o", "claude-sonnet-4-5", "claude-haiku-4-5-20251001", "only-b:1"]
NAMES: Final = [*EXACT[:3], "o4-mini"]


@pytest.fixture(scope="module")
def aliased_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with aliases, which tests do not change but for new keys and requests."""
    directory: Path = tmp_path_factory.mktemp("data")
    with fleet(directory, TWO, GATEWAY_ALIASES=json.dumps(ALIASES)) as started:
        yield started


@pytest.mark.parametrize("name", NAMES)
def test_ollamas_client_uses_an_alias(aliased_fleet: Fleet, name: str) -> None:
    """Chats, embeddings and descriptions, with the name in each answer."""
    with ollama_client(aliased_fleet) as client:
        parts = list(client.chat(name, SAY_HI, stream=True))
        whole = client.generate(name, "hi")
        vectors = client.embed(name, ["a", "b"])
        details = client.show(name).details
        listed = [model.model for model in client.list().models]

    assert {part.model for part in parts} == {name}
    assert "".join(part.message.content or "" for part in parts)
    assert (whole.model, vectors.model, len(vectors.embeddings)) == (name, name, 2)
    assert details is not None
    assert listed[-4:] == EXACT


@pytest.mark.parametrize("name", NAMES)
def test_openais_client_uses_an_alias(aliased_fleet: Fleet, name: str) -> None:
    """Chats, completions, responses, embeddings and the model's card."""
    with openai_client(aliased_fleet) as client:
        chunks = list(client.chat.completions.create(model=name, messages=SAY_HI, stream=True))
        chat = client.chat.completions.create(model=name, messages=SAY_HI)
        texts = list(client.completions.create(model=name, prompt="hi", stream=True))
        events = list(client.responses.create(model=name, input="hi", stream=True))
        response = client.responses.create(model=name, input="hi")
        vectors = client.embeddings.create(model=name, input=["a"], encoding_format="float")
        card = client.models.retrieve(name)
        listed = [model.id for model in client.models.list()]

    completed = events[-1]
    assert completed.type == "response.completed"
    answers: list[Any] = [*chunks, *texts, chat, response, vectors]
    assert {answer.model for answer in answers} == {name}
    assert (completed.response.model, card.id) == (name, name)
    assert listed[-4:] == EXACT


@pytest.mark.filterwarnings("ignore:The model '.*' is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_anthropics_client_uses_an_alias(aliased_fleet: Fleet, name: str) -> None:
    """Messages, streamed and whole, and the count of tokens that comes before each."""
    with anthropic_client(aliased_fleet) as client:
        counted = client.messages.count_tokens(model=name, messages=SAY_HI)
        with client.messages.stream(model=name, max_tokens=50, messages=SAY_HI) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        whole = client.messages.create(model=name, max_tokens=50, messages=SAY_HI)

    assert counted.input_tokens > 0
    assert text
    assert {final.model, whole.model} == {name}


def test_a_key_without_a_right_gets_its_clients_own_error(aliased_fleet: Fleet) -> None:
    """It may use only what it may use, whatever its client calls it."""
    made = aliased_fleet.ctl_json(
        "keys", "create", "narrow", "--models", "alias:claude-*", "--alias", "gpt-4o=only-b:1"
    )
    with openai_client(aliased_fleet, made["key"]) as client:
        assert [model.id for model in client.models.list()] == EXACT[1:3]
        with pytest.raises(openai.PermissionDeniedError):
            client.chat.completions.create(model="gpt-4o", messages=SAY_HI)
    with anthropic_client(aliased_fleet, made["key"]) as other:
        assert other.messages.create(model=EXACT[2], max_tokens=9, messages=SAY_HI).content
        with pytest.raises(anthropic.PermissionDeniedError):
            other.messages.create(model="only-b:1", max_tokens=9, messages=SAY_HI)


def test_operators_see_what_a_name_stands_for(aliased_fleet: Fleet) -> None:
    """`models` and `config show` list the aliases; `explain` and the record name the model."""
    known = aliased_fleet.ctl("explain", "gpt-4oo").stderr
    listed = aliased_fleet.ctl_json("models")
    table = aliased_fleet.ctl("models").stdout
    explained = aliased_fleet.ctl("explain", "gpt-4o")
    ask(
        aliased_fleet.port,
        "/api/chat",
        aliased_fleet.key,
        {"model": "gpt-4o", "messages": SAY_HI, "stream": False},
    )
    stored = aliased_fleet.ctl("audit", "list", "--json").stdout.splitlines()
    record = next(one for one in map(json.loads, stored) if one["alias"] == "gpt-4o")
    settings = aliased_fleet.ctl_json("config", "show")["settings"]

    assert "did you mean gpt-4o?" in known
    assert listed["aliases"]["gpt-4o"] == ["gone:1", "shared:1"]
    assert listed["hidden"] == []
    assert "gone:1, shared:1" in table
    assert explained.returncode == 0
    assert '"gpt-4o" is an alias of gone:1, shared:1' in explained.stderr
    assert [line.split()[:3] for line in explained.stdout.splitlines()[1:3]] == [
        ["shared:1", "1", "a"],
        ["shared:1", "2", "b"],
    ]
    assert (record["model"], record["backend"]) == ("shared:1", "a")
    assert settings['aliases."o*-mini"'] == {"value": ["shared:1"], "origin": "environment"}


def test_a_hidden_model_is_a_warning(tmp_path: Path) -> None:
    """`models` names each model that an alias hides."""
    hiding = json.dumps({"only-a:1": "shared:1"})
    with fleet(tmp_path, TWO, GATEWAY_ALIASES=hiding) as started:
        found = started.ctl("models")
        assert started.ctl_json("models")["hidden"] == ["only-a:1"]

    assert found.returncode == 0
    assert "warning: an alias hides the model only-a:1\n" in found.stderr
