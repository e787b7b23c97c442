"""Sizes, figures, and two fleets that the tests share: starting processes takes the most time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.campaign.sizes import FULL, SMALL, Sizes
from tests.smoke.fleet import Fleet, fleet
from tests.support.redis_server import redis_server

Note = Callable[[str], None]
"""Takes a line of figures."""

SIMULATORS: Final = {
    "quick": ("--model", "quick:1", "--tokens", "2000", "--token-delay", "0ms"),
    "places": ("--model", "places:1", "--tokens", "10", "--token-delay", "10ms"),
    "slow": ("--model", "slow:1", "--tokens", "1000", "--token-delay", "1s"),
}
"""Each has a model of its own, so that tests do not disturb each other's figures."""

_NOTES: Final = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def sizes(pytestconfig: pytest.Config) -> Sizes:
    """How large the tests are."""
    return FULL if pytestconfig.getoption("full") else SMALL


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Keeps a figure for the end of the run."""
    notes = request.config.stash.setdefault(_NOTES, [])
    return lambda line: notes.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures of a full run."""
    if config.getoption("full"):
        terminalreporter.section("figures")
        for line in config.stash.get(_NOTES, []):
            terminalreporter.write_line(line)


@pytest.fixture(scope="package")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One gateway, which counts by itself."""
    with fleet(tmp_path_factory.mktemp("alone"), SIMULATORS) as started:
        yield started


@pytest.fixture(scope="package")
def four(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Four gateways, which count in one Redis."""
    directory = tmp_path_factory.mktemp("four")
    with (
        redis_server() as url,
        fleet(directory, SIMULATORS, gateways=4, GATEWAY_REDIS_URL=url) as started,
    ):
        yield started


@pytest.fixture(params=["alone", "four"])
def shared(request: pytest.FixtureRequest) -> Fleet:
    """Each of the two."""
    found: Fleet = request.getfixturevalue(request.param)
    return found
