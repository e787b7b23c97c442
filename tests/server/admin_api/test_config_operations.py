"""The settings and the state of a gateway over the admin API."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio.testing

from ollama_gateway.reloading import Reloading, SettingsSource
from ollama_gateway.settings import Loaded, SettingsError
from ollama_gateway.storage.batcher import in_place
from tests.server.admin_api.asking import TOKEN, asked, got, open_admin, problem_of
from tests.support.scenario import Scenario

Clock = trio.testing.MockClock


@attrs.define
class File:
    """Settings that are read again."""

    scenario: Scenario
    changes: dict[str, Any] = attrs.field(factory=dict)
    """New values of settings of the race, by name."""
    problems: tuple[str, ...] = ()

    def read(self) -> Loaded:
        """Return the settings in force, changed."""
        if self.problems:
            raise SettingsError(self.problems)
        settings = self.scenario.gateway.settings
        race = attrs.evolve(settings.race, **self.changes)
        origins = dict.fromkeys(["race.max_attempts"], "file")
        changed = attrs.evolve(settings, race=race)
        return Loaded(changed, None, ("doubtful",), origins=origins)  # type: ignore[arg-type]

    def offer(self) -> None:
        """Let the gateway reload them."""
        source = SettingsSource(self.read)
        self.scenario.gateway.offer_reload(Reloading(self.scenario.gateway, source, in_place))


async def test_settings_in_force_are_shown_without_secrets(autojump_clock: Clock) -> None:
    """The document has every setting by its path; of a secret it says only that it is set."""
    async with open_admin() as scenario:
        File(scenario).offer()
        reply = await asked(scenario, "GET", "/config")

    settings = reply.document["settings"]
    assert settings["server.admin_token"]["value"] == "(set)"
    assert settings["redis.url"]["value"] == "(not set)"
    assert settings["backends[0].name"] == {"value": "a", "origin": None}
    assert TOKEN.encode() not in reply.body


async def test_a_reload_does_what_the_difference_says(autojump_clock: Clock) -> None:
    """What differs is shown, put in force, recorded with its actor, and then in force."""
    async with open_admin() as scenario:
        file = File(scenario, {"max_attempts": 7})
        file.offer()
        difference = await got(scenario, "/config/diff")
        reloaded = await asked(scenario, "POST", "/config/reload")
        in_force = (await got(scenario, "/config"))["settings"]["race.max_attempts"]
        changes = (await got(scenario, "/audit?kind=change"))["items"]

    change = {"path": "race.max_attempts", "before": 3, "after": 7}
    assert difference == {"changes": [{**change, "needs_restart": False}]}
    assert reloaded.document == {"changes": [change], "warnings": ["doubtful"]}
    assert in_force == {"value": 7, "origin": "file"}
    assert [(one["by"], one["action"], one["after"], one["outcome"]) for one in changes] == [
        ("settings", "config.reload", {"changes": [change]}, "made")
    ]


@pytest.mark.parametrize(("method", "path"), [("GET", "/config/diff"), ("POST", "/config/reload")])
async def test_wrong_settings_are_named(autojump_clock: Clock, method: str, path: str) -> None:
    """Each problem stands with the path of its setting, and nothing changes."""
    async with open_admin() as scenario:
        before = scenario.gateway.settings
        File(scenario, problems=("race.hedge_after: is odd", "no file")).offer()
        reply = await asked(scenario, method, path)

        assert scenario.gateway.settings is before
    assert reply.status == 422
    assert reply.document["problems"] == [
        {"where": "race.hedge_after", "detail": "is odd"},
        {"where": "settings", "detail": "no file"},
    ]


async def test_a_process_that_was_handed_its_settings_says_so(autojump_clock: Clock) -> None:
    """Where a parent reads the settings, its admin listener answers for them."""
    async with open_admin() as scenario:
        reply = await asked(scenario, "GET", "/config")

    assert problem_of(reply) == (
        409,
        "the settings of this process were handed to it: it cannot read them",
    )


async def test_the_status_is_that_of_status_json(autojump_clock: Clock) -> None:
    """Both ways give the same document."""
    async with open_admin() as scenario:
        await scenario.ask()
        status = await got(scenario, "/status")
        old = await scenario.ask("/status.json", method="GET", key=TOKEN, is_admin=True)

    assert status == old.document
    assert (status["ready"], [one["name"] for one in status["backends"]]) == (True, ["a", "b"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/backends/a/pause"),
        ("POST", "/backends/a/resume"),
        ("POST", "/backends/a/drain"),
        ("POST", "/models/pull"),
        ("POST", "/models/load"),
        ("POST", "/models/unload"),
        ("POST", "/config/reload"),
    ],
)
async def test_a_reader_changes_nothing(autojump_clock: Clock, method: str, path: str) -> None:
    """Without a token all may be read on loopback, and nothing changed: 403, and no record."""
    async with open_admin(GATEWAY_SERVER_ADMIN_TOKEN="") as scenario:
        File(scenario).offer()
        status = (await asked(scenario, method, path, {"model": "m1"}, key=None)).status
        for readable in ("/backends", "/models", "/usage", "/audit", "/config", "/status"):
            await got(scenario, readable, key=None)
        changes = (await got(scenario, "/audit?kind=change", key=None))["items"]

    assert status in {401, 403}
    assert changes == []
