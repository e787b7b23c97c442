"""A gateway under load, and the Prometheus that scrapes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import attrs
import pytest

from ollama_gateway.keys.key import KeyLimits
from tests.monitoring.prometheus import Prometheus, missing, scraping
from tests.smoke.asking import CHAT, ask
from tests.smoke.fleet import Fleet, fleet

CLIENTS: Final = 8
PACE: Final = ("--tokens", "40", "--token-delay", "5ms", "--load-time", "0.2s")
MACHINES: Final = {name: ("--model", "shared:1", f"only-{name}:1", *PACE) for name in "ab"}


@attrs.frozen
class Watched:
    """A gateway under load, and its Prometheus."""

    fleet: Fleet
    prometheus: Prometheus


def pytest_sessionstart(session: pytest.Session) -> None:
    """Report all programs that are missing before anything is started."""
    if (lacking := missing()) and not session.config.option.collectonly:
        pytest.exit(f"these tests need {', '.join(lacking)}: apt-get install prometheus", 1)


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Chats, whole and streamed, refused keys and models, while Prometheus looks."""
    settings = {"GATEWAY_LIMITS_METRICS_BY_KEY": "true", "GATEWAY_AFFINITY_ENABLED": "true"}
    data, series = (tmp_path_factory.mktemp(name) for name in ("data", "series"))
    with (
        fleet(data, MACHINES, 1, "equal", **settings) as started,
        loaded(started),
        scraping(started.gateways[0].admin_port, series) as prometheus,
    ):
        yield Watched(started, prometheus)


@contextmanager
def loaded(started: Fleet) -> Iterator[None]:
    """Keep clients asking during the block."""
    is_over = threading.Event()
    _, limited = started.create_key("limited", KeyLimits(requests_per_minute=5))

    def chat(number: int) -> None:
        while not is_over.is_set():
            model = ("shared:1", "only-a:1", "only-b:1")[number % 3]
            body = {**CHAT, "model": model, "stream": number % 4 > 0}
            ask(started.port, "/api/chat", started.key, body)

    def fail() -> None:
        while not is_over.wait(0.1):
            ask(started.port, "/api/chat", "sk-unknown", CHAT)
            ask(started.port, "/api/chat", limited, CHAT)
            ask(started.port, "/api/chat", started.key, {**CHAT, "model": "unheard-of"})

    clients = [threading.Thread(target=chat, args=(number,)) for number in range(CLIENTS)]
    clients.append(threading.Thread(target=fail))
    for client in clients:
        client.start()
    try:
        yield
    finally:
        is_over.set()
        for client in clients:
            client.join()
