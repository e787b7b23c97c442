"""What one of several processes has of what all of them may have together.

Connections, the memory of bodies and of answers, and the slots of backends hold for the gateway,
not for a process. They are divided, since counting them together would cost every request a way to
another process. What does not divide evenly goes to the first processes, for each backend beginning
at another, so that no process has all the remainders. `checks.py` refuses what leaves a process
with nothing.
"""

from __future__ import annotations

import attrs

from ollama_gateway.settings.model import Settings


def share_of(settings: Settings, number: int) -> Settings:
    """The settings of process `number`, from 0; of all processes together they are the whole."""
    server, count = settings.server, settings.server.processes
    return attrs.evolve(
        settings,
        server=attrs.evolve(
            server,
            max_connections=share(server.max_connections, number, count),
            max_connections_per_address=share(server.max_connections_per_address, number, count),
            max_body_total=share(server.max_body_total, number, count),
            max_answers_total=share(server.max_answers_total, number, count),
        ),
        backends=tuple(
            attrs.evolve(backend, slots=share(backend.slots, (number + place) % count, count))
            for place, backend in enumerate(settings.backends)
        ),
    )


def share(total: int, number: int, count: int) -> int:
    """Part `number`, from 0, of a total that is divided by `count`, to the last one."""
    return total // count + (number < total % count)
