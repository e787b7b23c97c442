"""Limits set by operators and met by clients, over real sockets."""

from __future__ import annotations

import re

import ollama
import openai
import pytest

from ollama_gateway.keys.key import KeyLimits
from tests.smoke.asking import CHAT, MODEL, SAY_HI, ask, ollama_client, openai_client
from tests.smoke.fleet import Fleet
from tests.support.patience import wait_until

TOLD = r"this key's limit of 1 requests a minute is reached; try again in (1m)?\d+s"


def status_with(fleet: Fleet, key: str) -> int:
    """Return the status of a chat with a key."""
    body = CHAT | {"stream": False, "options": {"num_predict": 1}}
    return ask(fleet.port, "/api/chat", key, body).status


def used_up(fleet: Fleet, name: str) -> str:
    """Return the text of a key that has used its one request of this minute."""
    _, text = fleet.create_key(name, KeyLimits(requests_per_minute=1, tokens_per_day=100_000))
    assert status_with(fleet, text) == 200
    return text


def test_a_changed_limit_takes_effect(shared_fleet: Fleet) -> None:
    """`keys update` sets and removes a limit, and a running gateway follows."""
    key, text = shared_fleet.create_key("changed", KeyLimits())
    assert status_with(shared_fleet, text) == 200
    assert shared_fleet.ctl("keys", "update", key.id, "--requests-per-minute", "1").returncode == 0
    wait_until(lambda: status_with(shared_fleet, text) == 429)
    assert shared_fleet.ctl("keys", "update", key.id, "--requests-per-minute", "0").returncode == 0
    wait_until(lambda: status_with(shared_fleet, text) == 200)


def test_show_prints_the_usage(shared_fleet: Fleet) -> None:
    """`keys show` prints the usage of the running gateway, for people and programs."""
    limits = KeyLimits(requests_per_minute=5, concurrent_requests=2, tokens_per_month=100_000)
    key, text = shared_fleet.create_key("shown", limits)
    assert status_with(shared_fleet, text) == 200
    shown = shared_fleet.ctl("keys", "show", "shown")
    usage = shared_fleet.ctl_json("keys", "show", key.id)["usage"]

    assert "requests:          1 of 5 in the last minute, 4 left" in shown.stdout
    assert "at once:           0 of 2 now, 2 left" in shown.stdout
    assert "tokens this month: 12 of 100,000, 99,988 left, resets in " in shown.stdout
    figures = {name: (one["limit"], one["used"], one["left"]) for name, one in usage.items()}
    assert figures == {
        "rate": (5, 1, 4),
        "concurrency": (2, 0, 2),
        "month": (100_000, 12, 99_988),
    }


def test_openais_client_meets_its_own_error(shared_fleet: Fleet) -> None:
    """A 429 is a `RateLimitError` with the headers that OpenAI documents."""
    text = used_up(shared_fleet, "for openai")
    with (
        openai_client(shared_fleet, text) as client,
        pytest.raises(openai.RateLimitError) as caught,
    ):
        client.chat.completions.create(model=MODEL, messages=SAY_HI)
    headers = caught.value.response.headers
    requests = {
        name: headers[f"x-ratelimit-{name}"] for name in ("limit-requests", "remaining-requests")
    }
    assert requests == {"limit-requests": "1", "remaining-requests": "0"}
    assert headers["x-ratelimit-reset-requests"].endswith("s")
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    assert headers["x-ratelimit-remaining-tokens"] == "99988"
    assert int(headers["retry-after"]) > 0


@pytest.mark.parametrize("how", ["whole", "streamed"])
def test_ollamas_client_meets_its_own_error(shared_fleet: Fleet, how: str) -> None:
    """A 429 is a `ResponseError` with one line that names the limit."""
    text = used_up(shared_fleet, f"for ollama {how}")
    with (
        ollama_client(shared_fleet, text) as client,
        pytest.raises(ollama.ResponseError) as caught,
    ):
        list(client.chat(MODEL, SAY_HI, stream=how == "streamed"))
    assert caught.value.status_code == 429
    assert re.fullmatch(TOLD, caught.value.error)
