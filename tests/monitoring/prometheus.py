"""A Prometheus that scrapes a gateway."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import attrs

from tests.metrics.dashboards import FOLDER
from tests.support.patience import PATIENCE, wait_until
from tests.support.ports import free_port

PROGRAMS: Final = ("prometheus", "promtool")
WINDOW: Final = "10s"
"""Stands for Grafana's `$__rate_interval`."""


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [program for program in PROGRAMS if shutil.which(program) is None]


@attrs.frozen
class Prometheus:
    """A running Prometheus."""

    url: str

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of its API; raises AssertionError if it is an error."""
        target = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(target, timeout=PATIENCE) as response:  # noqa: S310
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{query}: {error.read().decode()}") from error

    def samples(self, expression: str) -> list[Any]:
        """Return the samples that an expression has now."""
        found = self.ask("query", query=expression.replace("$__rate_interval", WINDOW))
        result: list[Any] = found["result"]
        return result

    def value(self, expression: str) -> float:
        """Return the one value of an expression."""
        [sample] = self.samples(expression)
        return float(sample["value"][1])


@contextmanager
def scraping(admin_port: int, directory: Path) -> Iterator[Prometheus]:
    """Run a Prometheus with the rules during the block; it scrapes a gateway once a second."""
    text = (FOLDER / "prometheus.yml").read_text()
    assert "scrape_interval: 5s" in text
    text = text.replace("scrape_interval: 5s", "scrape_interval: 1s")
    text = re.sub(r"evaluation_interval: \d+s", "evaluation_interval: 1s", text)
    text = text.replace("127.0.0.1:11436", f"127.0.0.1:{admin_port}")
    text = text.replace("rules.yml", str(FOLDER / "rules.yml"))
    config = directory / "prometheus.yml"
    config.write_text(text)
    url = f"http://127.0.0.1:{free_port()}"
    log = directory / "log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [  # noqa: S607
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'series'}",
                f"--web.listen-address={url.removeprefix('http://')}",
            ],
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
    try:
        found = Prometheus(url)
        wait_until(lambda: _answers(found), log.read_text)
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(prometheus: Prometheus) -> bool:
    try:
        urllib.request.urlopen(f"{prometheus.url}/-/ready", timeout=PATIENCE).close()  # noqa: S310
    except urllib.error.URLError:
        return False
    return any(target["health"] == "up" for target in prometheus.ask("targets")["activeTargets"])
