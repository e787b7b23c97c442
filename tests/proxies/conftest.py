"""The gateway behind each proxy that is installed; all must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.proxies.examples import PROXIES, missing, proxy
from tests.smoke.fleet import Fleet, fleet

SIMULATORS = {
    "stuck": ("--model", "stuck:1", "--tokens", "2", "--token-delay", "3600s"),
    "slow": ("--model", "slow:1", "--tokens", "36000", "--token-delay", "100ms"),
    "quick": ("--model", "quick:1", "--token-delay", "0ms"),
}


def pytest_sessionstart(session: pytest.Session) -> None:
    """Report all programs that are missing before anything is started."""
    lacking = missing()
    if lacking and not session.config.option.collectonly:
        pytest.exit(
            f"these tests need {', '.join(lacking)}: apt-get install {' '.join(lacking)}", 1
        )


@pytest.fixture(scope="package")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A gateway with a quick model, a slow one, and one that never writes its second token."""
    directory = tmp_path_factory.mktemp("data")
    with fleet(directory, SIMULATORS, GATEWAY_SERVER_TRUSTED_PROXIES='["127.0.0.1"]') as started:
        yield started


@pytest.fixture(scope="module", params=PROXIES)
def port(
    request: pytest.FixtureRequest, behind: Fleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a proxy in front of it."""
    directory: Path = tmp_path_factory.mktemp(request.param)
    with proxy(request.param, behind.port, directory) as listening:
        yield listening
