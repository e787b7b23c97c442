"""One of several serving processes: `python -m ollama_gateway.processes.child NUMBER DESCRIPTOR`.

Only its parent (`processes/parent.py`) starts it. DESCRIPTOR is its control socket, over which it
receives its settings and sockets (`processes/spawn.py`). It runs the same gateway as `gatewayctl
serve` with one process. SIGTERM drains this process alone, and the parent starts another.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from functools import partial
from pathlib import Path

import trio

from ollama_gateway import log_output
from ollama_gateway.build import Gateway
from ollama_gateway.ledger.log import EXCHANGE
from ollama_gateway.ledger.summary import log_line
from ollama_gateway.log import get_logger
from ollama_gateway.log_output import LineWriter
from ollama_gateway.processes.orders import message, obey
from ollama_gateway.processes.spawn import READY, Assignment, receive_assignment
from ollama_gateway.settings import Settings
from ollama_gateway.supervisor import freeze_loaded_objects, run_to_the_end, supervise


def main() -> int:
    """Serve until a signal or the parent says stop; return 1 if the gateway cannot start."""
    os.environ.pop("NOTIFY_SOCKET", None)  # systemd listens to the parent only
    parent, control_socket = os.getppid(), socket.socket(fileno=int(sys.argv[2]))
    assignment = receive_assignment(control_socket)
    if assignment is None:
        return 0  # the parent has ended
    settings = assignment.settings
    writer = _log_as(assignment.number, None, settings)
    sockets = assignment.sockets()
    path = Path(sockets.admin[0].getsockname())
    serving = partial(
        supervise,
        settings,
        sockets=sockets,
        has_parent=True,
        until=partial(obey, control_socket, partial(_log_as, assignment.number, writer)),
        on_ready=partial(_report_ready, control_socket, assignment),
    )
    has_ended_well = run_to_the_end(partial(trio.run, serving), writer)
    if os.getppid() != parent:
        _tidy_up(path)
    return int(not has_ended_well)


def _log_as(number: int, writer: LineWriter | None, settings: Settings) -> LineWriter:
    log, summaries = settings.log, {EXCHANGE: log_line}
    return log_output.configure(
        log.level, log.format, process=number, writer=writer, summaries=summaries
    )


def _tidy_up(path: Path) -> None:
    """Clean up in place of a parent that has ended: the last process removes the directory."""
    with contextlib.suppress(OSError):  # other processes still use it
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def _report_ready(
    control_socket: socket.socket, assignment: Assignment, gateway: Gateway, _address: str
) -> None:
    freeze_loaded_objects()
    with contextlib.suppress(OSError):  # the parent has ended, which the control socket shows
        control_socket.send(message(READY))
    up = sum(backend.is_up for backend in gateway.backends.all)
    get_logger("serve").info("process ready", of=assignment.settings.server.processes, up=up)


if __name__ == "__main__":
    sys.exit(main())
