"""The documents of models: where each one is, and by which names and rules."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, cast

import httpx
import pytest
import trio.testing

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends
from ollama_gateway.backends.catalog import Listing
from ollama_gateway.control.models import ModelView
from ollama_gateway.models.aliases import Aliases, alias_of
from ollama_gateway.models.rules import ContextRule
from ollama_gateway.settings.load_rules import ModelSettings
from ollama_gateway.turns import run_through
from ollama_gateway.wire.large import Steps

Clock = trio.testing.MockClock
DIGEST = "0123456789abcdef"


def listed(name: str, digest: str = DIGEST, **more: object) -> dict[str, object]:
    """Return an entry of `/api/tags` or `/api/ps`."""
    return {"name": name, "digest": digest, "size": 5, "modified_at": "2026-07-01", **more}


def polled(backends: Backends, name: str, models: list[Any], running: list[Any]) -> None:
    """Let a backend answer a poll."""
    backend = backends.named(name)
    assert backend is not None
    listing = Listing.read({"version": "1"}, {"models": models}, {"models": running}, ("*",))
    backends.polled(backend, listing, 0)


def fleet(*names: str) -> Backends:
    """Return backends that have not been polled yet."""
    transport = cast("Any", None)
    return Backends.of([Backend(name, httpx.URL("http://h"), transport) for name in names])


async def test_a_model_is_shown_with_its_machines_names_and_rules(autojump_clock: Clock) -> None:
    """A document says who lists and who has loaded a model, its aliases, and the rule for it."""
    backends = fleet("a", "b")
    loaded = listed("m:1", size_vram=4, context_length=8192, expires_at="later")
    polled(backends, "a", [listed("m:1")], [loaded])
    polled(backends, "b", [listed("m:1", "f" * 16), listed("n:1", size=True)], [])
    aliases = Aliases((alias_of("gpt-*", ["m:1"]), alias_of("n:1", ["m:1"])))
    backends.hidden = aliases.hidden
    rules = [ModelSettings("m*", num_ctx=ContextRule("exactly", 8192)), ModelSettings("*")]
    first, second = run_through(ModelView(backends, aliases, rules).page("", 10))

    assert first == {
        "name": "m:1",
        "size": 5,
        "digest": DIGEST[:12],
        "modified_at": "2026-07-01",
        "backends": ["a", "b"],
        "loaded": [
            {
                "backend": "a",
                "size": 5,
                "size_vram": 4,
                "context": 8192,
                "expires_at": "later",
            }
        ],
        "digests": {"a": DIGEST[:12], "b": "f" * 12},
        "aliases": ["gpt-*", "n:1"],
        "hidden": False,
        "rules": {"match": "m*", "num_ctx": 8192},
    }
    assert (second["name"], second["size"], second["hidden"]) == ("n:1", None, True)
    assert second["rules"]["match"] == "*"


async def test_pages_follow_each_other(autojump_clock: Clock) -> None:
    """A page begins after a name, whether that is still there or not, and ends at the limit."""
    backends = fleet("a")
    polled(backends, "a", [listed(f"m{n}:1") for n in (3, 1, 2)], [])
    view = ModelView(backends, Aliases(), ())

    def names(after: str, limit: int) -> list[str]:
        return [one["name"] for one in run_through(view.page(after, limit))]

    assert names("", 2) == ["m1:1", "m2:1"]
    assert names("m2:1", 2) == ["m3:1"]
    assert names("m1:5", 1) == ["m2:1"]
    assert names("m3:1", 1) == []


@pytest.mark.parametrize("spread", ["alike", "different"])
def test_no_step_of_a_large_page_holds_the_loop(spread: str) -> None:
    """Of 50 backends with 200 models each, all alike or all different, a page's steps are short.

    CPU is counted, so that a busy machine changes nothing; a step of 20 ms would hold a stream.
    """
    backends = fleet(*(f"b{n}" for n in range(50)))
    for number in range(50):
        models = [listed(f"m{n if spread == 'alike' else 200 * number + n}:1") for n in range(200)]
        polled(backends, f"b{number}", models, models)
    view = ModelView(backends, Aliases(), [ModelSettings("m*"), ModelSettings("*")])
    assert len(backends.catalog.models) == (200 if spread == "alike" else 10_000)

    assert min(longest_step(view.page("", 1000)) for _ in range(3)) < 0.02


def longest_step(work: Steps[Any]) -> float:
    """Return the CPU seconds of the longest step."""
    steps = []
    with suppress(StopIteration):
        while True:
            began = time.thread_time()
            try:
                next(work)
            finally:
                steps.append(time.thread_time() - began)
    return max(steps)
