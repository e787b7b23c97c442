"""Divides the gateway's limits among several processes.

The limits of connections, of memory for bodies and answers, and of the slots of backends apply to
the whole gateway. Each process gets a share of them, since a common count would cost each request a
round trip to another process. Remainders go to the first processes, and for each backend to
different ones, so that no process gets them all. `checks.py` refuses limits that leave a process
with nothing.

No process needs the admin token or certificate: only the parent can reach its admin listener
(`spawn.py`). So the parent can ask all processes while a reload changes the token.
"""

from __future__ import annotations

import attrs

from ollama_gateway.settings.model import Settings


def share_of(settings: Settings, number: int) -> Settings:
    """Return the settings of process `number`, from 0; the shares of all add up to the whole."""
    server, count = settings.server, settings.server.processes
    return attrs.evolve(
        settings,
        server=attrs.evolve(
            server,
            admin_token=None,
            admin_tls_cert=None,
            admin_tls_key=None,
            max_connections=share(server.max_connections, number, count),
            max_connections_per_address=share(server.max_connections_per_address, number, count),
            max_body_total=share(server.max_body_total, number, count),
            max_answers_total=share(server.max_answers_total, number, count),
        ),
        backends=tuple(
            attrs.evolve(backend, slots=share(backend.slots, (number + index) % count, count))
            for index, backend in enumerate(settings.backends)
        ),
    )


def share(total: int, number: int, count: int) -> int:
    """Return share `number`, from 0, of a total that is divided into `count` shares."""
    return total // count + (number < total % count)
