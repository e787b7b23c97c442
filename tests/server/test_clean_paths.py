"""Paths that Ollama's router redirects are served directly."""

from __future__ import annotations

import pytest

from tests.support.scenario import CHAT, Scenario

pytestmark = pytest.mark.virtual_time


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("GET", "//api/tags", "/api/tags"),
        ("GET", "/api/tags/", "/api/tags"),
        ("GET", "/api//tags", "/api/tags"),
        ("GET", "/v1//models", "/v1/models"),
        ("GET", "/v1/models/", "/v1/models"),
        ("POST", "/api/chat/", "/api/chat"),
        ("POST", "//api/chat", "/api/chat"),
        ("POST", "/v1///chat//completions//", "/v1/chat/completions"),
        ("HEAD", "//", "/"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/k/KEY", "//k/KEY", "/k/KEY/"])
async def test_it_is_the_clean_path(
    scenario: Scenario, method: str, path: str, route: str, prefix: str
) -> None:
    """A base URL with an extra slash works, and the record has the clean path."""
    key = None if prefix else scenario.key
    target = prefix.replace("KEY", scenario.key) + path
    reply = await scenario.ask(target, CHAT, method=method, key=key)

    assert reply.status == 200
    assert "location" not in reply.headers
    assert [record.endpoint for record in scenario.records] in ([], [route])


@pytest.mark.parametrize("path", ["/api/./tags", "/api/../api/tags", "/api%2ftags", "/api/tags/x"])
async def test_other_paths_are_not_guessed(scenario: Scenario, path: str) -> None:
    """Dots, escapes and unknown segments are not cleaned away."""
    reply = await scenario.ask(path, method="GET")

    assert reply.status == 404


async def test_a_query_counts_toward_the_bound_of_a_target(scenario: Scenario) -> None:
    """Path and query together have at most 8 KiB."""
    long = await scenario.ask("/api/tags?" + "x" * 8200, method="GET")
    short = await scenario.ask("/api/tags?" + "x" * 8000, method="GET")

    assert (long.status, short.status) == (400, 200)


async def test_ollamas_menu_is_told_that_there_is_no_cloud(scenario: Scenario) -> None:
    """The CLI's menu sees a disabled cloud unless the key may use it."""
    _, outside = scenario.store.create("outside", ("*", "*-cloud"))
    local = await scenario.ask("/api/status", method="GET")
    cloud = await scenario.ask("/api/status", method="GET", key=outside)
    path = "/api/experimental/model-recommendations"
    recommended = await scenario.ask(path, method="GET")
    missing = await scenario.ask("/api/status", method="GET", key=None)

    assert local.document == {"cloud": {"disabled": True, "source": "config"}}
    assert cloud.document["cloud"]["disabled"] is False
    assert recommended.document == {"recommendations": []}
    assert missing.status == 401
