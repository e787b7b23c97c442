"""Up, down and remembered: the effect of polls on routing and on the lists."""

from __future__ import annotations

import httpx
import pytest
import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends, ModelDown, ModelUnknown
from ollama_gateway.backends.evaluation import RouteRequest, evaluate, in_order
from ollama_gateway.wire.names import ModelName
from tests.backends.asking import UNUSED
from tests.backends.test_catalog import entry, listing

M = ModelName.parse("m:1")
DAY = 24 * 3600.0


def backends(*priorities: int) -> Backends:
    """Make backends named by letters, none polled yet."""
    return Backends.of(
        Backend(name, httpx.URL("http://h"), UNUSED, priority=priority)
        for name, priority in zip("abc", priorities, strict=False)
    )


def names(known: Backends, model: ModelName = M, now: float = 0) -> list[str]:
    """Return the candidates, in order."""
    known.check(model, now)
    evaluated = in_order(evaluate(RouteRequest(model, "key"), known, now))
    return [evaluation.backend.name for evaluation in evaluated]


def test_candidates_come_in_order_of_priority() -> None:
    """Lower numbers come first; equal numbers keep the order of the settings."""
    known = backends(2, 1, 2)
    for backend in known.all:
        known.polled(backend, listing(entry("m:1")), 0)

    assert names(known) == ["b", "a", "c"]


def test_two_failed_polls_change_nothing_and_the_third_takes_it_out() -> None:
    """A backend leaves lists and candidates at its third failure in a row, not before."""
    known = backends(1)
    known.polled(known.all[0], listing(entry("m:1")), 0)
    for _ in range(2):
        known.failed(known.all[0], "no answer")
    assert names(known) == ["a"]

    known.failed(known.all[0], "no answer")

    assert known.catalog.models == {}
    with pytest.raises(ModelDown):
        names(known)


def test_one_good_poll_brings_it_back() -> None:
    """One good poll brings a backend back."""
    known = backends(1)
    for _ in range(5):
        known.failed(known.all[0], "no answer")

    known.polled(known.all[0], listing(entry("m:1")), 1)

    assert names(known) == ["a"]


def test_a_model_is_forgotten_after_a_day() -> None:
    """A model that is down is remembered for 24 hours, and is unknown afterwards."""
    known = backends(1)
    known.polled(known.all[0], listing(entry("m:1")), 0)
    for _ in range(3):
        known.failed(known.all[0], "no answer")

    with pytest.raises(ModelDown):
        names(known, now=DAY - 1)
    with pytest.raises(ModelUnknown):
        names(known, now=DAY + 1)


def test_before_the_first_round_no_model_is_unknown() -> None:
    """Until every backend has been polled, any permitted name may turn up."""
    known = backends(1, 2)
    known.polled(known.all[0], listing(), 0)
    with pytest.raises(ModelDown):
        names(known)

    known.polled(known.all[1], listing(), 0)

    with pytest.raises(ModelUnknown):
        names(known)


async def test_attempts_on_a_backend_that_goes_down_are_cancelled() -> None:
    """The third failed poll cancels attempts that wait for that backend."""
    known = backends(1)
    backend = known.all[0]
    known.polled(backend, listing(entry("m:1")), 0)
    scope = trio.CancelScope()
    backend.unanswered[scope] = None
    for _ in range(2):
        known.failed(backend, "no answer")
    assert not scope.cancel_called

    known.failed(backend, "no answer")

    assert scope.cancel_called


def test_a_cloud_name_goes_where_the_settings_allow() -> None:
    """Cloud models are served unlisted, except by backends whose `models` exclude them."""
    known = backends(1, 2)
    known.all[0].patterns = ("llama*",)
    for backend in known.all:
        known.polled(backend, listing(entry("m:1")), 0)

    assert names(known, ModelName.parse("gpt-oss:120b-cloud")) == ["b"]


def test_the_last_version_is_kept() -> None:
    """`/api/version` still has an answer when every backend is down."""
    known = backends(1)
    known.polled(known.all[0], listing(version="0.9"), 0)
    for _ in range(3):
        known.failed(known.all[0], "no answer")

    assert (known.catalog.version, known.last_version) == (None, "0.9")


def test_a_copy_from_elsewhere_never_overrules_a_poll() -> None:
    """A listing of another process counts only until this process has polled."""
    known = backends(1)
    known.restore(known.all[0], listing(entry("m:1")), 0)
    assert names(known) == ["a"]
    known.polled(known.all[0], listing(), 0)

    known.restore(known.all[0], listing(entry("m:1")), 0)

    with pytest.raises(ModelUnknown):
        names(known)
