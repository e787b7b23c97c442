"""The SDKs do what the gateway's hints ask of them: give up at once, wait, or show the text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import anthropic
import ollama
import openai
import pytest

from ollama_gateway.keys.key import KeyLimits
from tests.smoke.fleet import Fleet, fleet

MODEL: Final = "m:1"
SAY_HI: Final[Any] = [{"role": "user", "content": "hi"}]
SHELL: Final[Any] = {"type": "function", "name": "shell", "parameters": {"type": "object"}}
SEARCH: Final[Any] = {"type": "web_search"}
MISSING: Final = "model missing:1 is not available to this key"


@pytest.fixture(scope="module")
def hinting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A fleet with one model that can call tools, but calls none that is offered here."""
    simulators = {"a": ("--model", MODEL, "--tokens", "3", "--token-delay", "1ms", "--tool", "x")}
    data: Path = tmp_path_factory.mktemp("data")
    with fleet(data, simulators) as started:
        yield started


@pytest.fixture(autouse=True)
def never_asleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where a client would sleep before it tries again."""

    def refuse(_self: object, *_: object, **__: object) -> None:
        pytest.fail("the client wants to try again")

    for sdk in (openai, anthropic):
        monkeypatch.setattr(sdk._base_client.SyncAPIClient, "_sleep_for_retry", refuse)


def gpt(of: Fleet, key: str = "", path: str = "/v1") -> openai.OpenAI:
    """Return OpenAI's client with its own retries."""
    return openai.OpenAI(base_url=of.url + path, api_key=key or of.key)


def claude(of: Fleet, key: str = "") -> anthropic.Anthropic:
    """Return Anthropic's client with its own retries."""
    return anthropic.Anthropic(base_url=of.url, api_key=key or of.key)


def spent_key(of: Fleet) -> str:
    """Return a key whose budget of the month is too small for any request."""
    _, key = of.create_key("spent", KeyLimits(tokens_per_month=1))
    return key


def ask_without_end(ask: Callable[[], object]) -> None:
    """Ask until the client raises; a minute may end between two requests."""
    while True:
        ask()


def test_a_wrong_key_is_told_once(hinting: Fleet) -> None:
    """Each SDK raises on the first 401, with the gateway's text."""
    with gpt(hinting, "wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model=MODEL, messages=SAY_HI)
    assert "invalid API key" in str(caught.value)
    with (
        claude(hinting, "wrong") as other,
        pytest.raises(anthropic.AuthenticationError, match="invalid API key"),
    ):
        other.messages.create(model=MODEL, max_tokens=5, messages=SAY_HI)


def test_a_missing_model_is_named(hinting: Fleet) -> None:
    """Each SDK raises on the first 403, which names the model as the client wrote it."""
    with gpt(hinting) as client:
        for ask in (
            lambda: client.chat.completions.create(model="missing:1", messages=SAY_HI),
            lambda: client.responses.create(model="missing:1", input="hi"),
            lambda: client.embeddings.create(model="missing:1", input="hi"),
        ):
            with pytest.raises(openai.PermissionDeniedError, match=MISSING) as caught:
                ask()
            assert caught.value.code == "model_not_found"
    with (
        claude(hinting) as other,
        pytest.raises(anthropic.PermissionDeniedError, match=MISSING) as refused,
    ):
        other.messages.create(model="missing:1", max_tokens=5, messages=SAY_HI)
    assert refused.value.request_id == refused.value.response.headers["x-request-id"]
    headers = {"Authorization": f"Bearer {hinting.key}"}
    with (
        ollama.Client(hinting.url, headers=headers) as third,
        pytest.raises(ollama.ResponseError, match=MISSING),
    ):
        third.chat("missing:1", SAY_HI)


def test_a_budget_that_is_spent_is_not_waited_for(hinting: Fleet) -> None:
    """SDKs raise at once on a 429 of a month; else they would sleep."""
    key = spent_key(hinting)
    with gpt(hinting, key) as client:
        for ask in (
            lambda: client.chat.completions.create(model=MODEL, messages=SAY_HI),
            lambda: client.responses.create(model=MODEL, input="hi"),
        ):
            with pytest.raises(openai.RateLimitError) as caught:
                ask()
            assert (caught.value.code, caught.value.type) == ("insufficient_quota",) * 2
    with claude(hinting, key) as other, pytest.raises(anthropic.RateLimitError):
        other.messages.create(model=MODEL, max_tokens=5, messages=SAY_HI)


def test_a_short_wait_is_waited_for(hinting: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """SDKs try again on a 429 of a rate: nothing forbids them to."""
    _, key = hinting.create_key("quick", KeyLimits(requests_per_minute=1))
    tries: list[object] = []
    for sdk in (openai, anthropic):
        monkeypatch.setattr(
            sdk._base_client.SyncAPIClient,
            "_sleep_for_retry",
            lambda _self, **how: tries.append(how["retries_taken"]),
        )
    with gpt(hinting, key) as client, claude(hinting, key) as other:
        with pytest.raises(openai.RateLimitError):
            ask_without_end(lambda: client.chat.completions.create(model=MODEL, messages=SAY_HI))
        with pytest.raises(anthropic.RateLimitError):
            ask_without_end(
                lambda: other.messages.create(model=MODEL, max_tokens=5, messages=SAY_HI)
            )

    assert tries == [0, 1, 0, 1]


def test_a_search_is_taken_out_of_a_request(hinting: Fleet) -> None:
    """A request of the Responses API with a search beside a function is served, and says so."""
    with gpt(hinting) as client:
        raw = client.responses.with_raw_response.create(
            model=MODEL, input="hi", tools=[SEARCH, SHELL]
        )
        assert raw.headers["x-gateway-changed"] == "tools"
        assert raw.parse().output_text
        with pytest.raises(openai.PermissionDeniedError, match="web_search"):
            client.responses.create(model=MODEL, input="hi", tools=[SEARCH])


@pytest.mark.parametrize("path", ["/v1/", "//v1", "/k/{key}//v1//"])
def test_a_slash_too_many_changes_nothing(hinting: Fleet, path: str) -> None:
    """OpenAI's client works with base URLs that have a slash too many."""
    with gpt(hinting, path=path.format(key=hinting.key)) as client:
        assert [model.id for model in client.models.list()] == [MODEL]
        assert client.chat.completions.create(model=MODEL, messages=SAY_HI).choices
