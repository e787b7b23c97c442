"""What `serve` logs when it serves."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
import structlog.testing

from ollama_gateway.cli.serve import _announce_processes
from ollama_gateway.settings import Settings


@pytest.mark.parametrize(("certificate", "scheme"), [(None, "http"), (Path("c.pem"), "https")])
def test_several_processes_name_the_scheme(certificate: Path | None, scheme: str) -> None:
    """The address is https where the clients' listener has a certificate."""
    settings = Settings()
    server = attrs.evolve(settings.server, processes=2, tls_cert=certificate)
    with structlog.testing.capture_logs() as lines:
        _announce_processes(
            attrs.evolve(settings, server=server), "127.0.0.1:11435", has_keys=False
        )

    (line,) = lines
    assert (line["address"], line["processes"]) == (f"{scheme}://127.0.0.1:11435", 2)
