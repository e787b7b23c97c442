"""One of several serving processes: `python -m ollama_gateway.processes.child NUMBER DESCRIPTOR`.

Only its parent (`processes/parent.py`) starts it. The descriptor is its control socket, over which
its settings and sockets come (`processes/spawn.py`). It is a gateway as `gatewayctl serve` runs one
process; SIGTERM drains it alone, and its parent starts another.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from functools import partial
from pathlib import Path

import trio

from ollama_gateway import log
from ollama_gateway.build import Gateway
from ollama_gateway.processes.spawn import READY, Assignment, received, wait_until_told
from ollama_gateway.supervisor import run_to_the_end, spare_what_is_loaded, supervise


def main() -> int:
    """Serve until told to stop; 1 where it could not."""
    parent, tether = os.getppid(), socket.socket(fileno=int(sys.argv[2]))
    assignment = received(tether)
    if assignment is None:
        return 0  # the parent has ended: there is nothing to serve for
    settings = assignment.settings
    writer = log.configure(settings.log.level, settings.log.format, process=assignment.number)
    sockets = assignment.sockets()
    path = Path(sockets.admin[0].getsockname())
    serving = partial(
        supervise,
        settings,
        sockets=sockets,
        until=partial(wait_until_told, tether),
        on_ready=partial(_tell, tether, assignment),
    )
    has_ended_well = run_to_the_end(partial(trio.run, serving), writer)
    if os.getppid() != parent:
        _tidy_up(path)
    return int(not has_ended_well)


def _tidy_up(path: Path) -> None:
    """What the parent would have done: the last process to end removes the directory."""
    with contextlib.suppress(OSError):  # others are still in it
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def _tell(tether: socket.socket, assignment: Assignment, gateway: Gateway, _address: str) -> None:
    spare_what_is_loaded()
    with contextlib.suppress(OSError):  # the parent has ended, and the tether says so
        tether.send(READY)
    up = sum(backend.is_up for backend in gateway.backends.all)
    log.get_logger("serve").info("process ready", of=assignment.settings.server.processes, up=up)


if __name__ == "__main__":
    sys.exit(main())
