"""The image, the network and the servers of these tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import pytest

from tests.podman import prerequisites
from tests.podman.podman import IMAGE, NETWORK, ROOT, podman, secret, simulator

Note = Callable[[str], None]
"""A function that takes a line of figures."""
PACE: Final = ("--tokens", "20", "--token-delay", "20ms")
SLOWLY: Final = ("--tokens", "80", "--token-delay", "100ms")
TOKEN: Final = "ollama-gateway-tests-token"

_NOTES: Final = pytest.StashKey[list[str]]()


def pytest_sessionstart(session: pytest.Session) -> None:
    """Report everything that is missing before anything is created."""
    lacking = list(prerequisites.missing())
    if lacking and not session.config.option.collectonly:
        lines = "".join(f"\n  - {what}" for what in lacking)
        pytest.exit(f"these tests cannot run here, they need:{lines}\n(docs/operate/podman.md)", 1)


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Return a function that keeps a figure for the end of the run."""
    notes = request.config.stash.setdefault(_NOTES, [])
    return lambda line: notes.append(f"{request.node.name}: {line}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the figures."""
    terminalreporter.section("figures")
    for line in config.stash.get(_NOTES, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def image() -> Iterator[str]:
    """Build the gateway's image and a network, and remove both at the end.

    An image that had the name before gets it back.
    """
    earlier = prerequisites.image_named(IMAGE)
    try:
        prerequisites.have_image(ROOT)
        prerequisites.have_network()
        try:
            yield IMAGE
        finally:
            podman("network", "rm", "--force", NETWORK)
    finally:
        prerequisites.put_back(IMAGE, earlier)


@pytest.fixture(scope="session")
def simulators(image: str) -> Iterator[tuple[str, ...]]:
    """Run two simulated Ollamas that share a model, the first preferred, and one with a slow model.

    Tests may stop them.
    """
    with (
        simulator("ollama-gateway-tests-a", "--model", "shared:1", "only-a:1", *PACE) as first,
        simulator("ollama-gateway-tests-b", "--model", "shared:1", *PACE) as second,
        simulator("ollama-gateway-tests-slow", "--model", "slow:1", *SLOWLY) as slow,
    ):
        yield first, second, slow


@pytest.fixture(scope="session")
def backends(simulators: tuple[str, ...]) -> str:
    """Return all simulators, as `OLLAMA_BACKENDS`."""
    return ",".join(f"{name}=http://{name}:11434" for name in simulators)


@pytest.fixture
def token() -> Iterator[str]:
    """Return the name of a podman secret with a token."""
    with secret(TOKEN, "the backend's token\n") as name:
        yield name
