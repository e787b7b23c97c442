"""`gatewayctl`, also as `python -m ollama_gateway`.

Ctrl-C ends every command with exit code 130 and without a traceback. While modules are imported,
and once a command has ended, it ends the process at once: nothing needs a clean-up then, and Python
would report an exception that arises in a finalizer or at its exit. `serve` drains instead.

Modules are no garbage, so none is looked for while they are imported, nor among them later; and a
command that has ended leaves its memory to the kernel. Both together save a third of a short
command (docs/decisions/0022-commands-end.md).
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 and the number of SIGINT, as shells report it."""
NEW_OBJECTS = 50_000
"""New objects after which garbage is looked for: many commands import the rest when they run."""


def main() -> NoReturn:
    """Run the command line, and end the process with its exit code."""
    _open_closed_streams()
    os._exit(gatewayctl(sys.argv[1:]))


def gatewayctl(arguments: Sequence[str]) -> int:
    """Run a command, and return its exit code once all that it has printed is written."""
    _on_interrupt(_exit_at_once)
    run = _command(arguments)
    _on_interrupt(signal.default_int_handler)
    try:
        return _ended(run)
    except BrokenPipeError:
        return 1
    except BaseException as error:
        if not _is_interrupt(error):
            raise
        return INTERRUPTED
    finally:
        _on_interrupt(_exit_at_once)


def _command(arguments: Sequence[str]) -> Callable[[], int]:
    """Import what a command needs, and nothing else, and return a call that runs it."""
    gc.disable()
    try:
        return _imported(arguments)
    finally:
        gc.freeze()
        gc.set_threshold(NEW_OBJECTS)
        gc.enable()


def _imported(arguments: Sequence[str]) -> Callable[[], int]:
    if arguments[:1] == ["health"]:
        from ollama_gateway.cli.health import answer, question_of  # noqa: PLC0415

        if question := question_of(arguments[1:]):
            return lambda: answer(question)
    from ollama_gateway.cli.main import COMMANDS, import_command, run  # noqa: PLC0415

    if arguments and arguments[0] in COMMANDS:
        import_command(arguments[0])
    return lambda: run(arguments)


def _ended(run: Callable[[], int]) -> int:
    """Run a command to its end, and return its exit code."""
    try:
        code = run()
    except SystemExit as end:
        code = int(end.code or 0)
    sys.stdout.flush()
    return code


def _open_closed_streams() -> None:
    """Open /dev/null where the shell has closed stdout or stderr (`>&-`), so that printing works.

    Otherwise the next file would take the number of the stream, and what others print into it.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _on_interrupt(handler: Callable[..., object]) -> None:
    """Handle Ctrl-C from now on, unless it is ignored, as in the background of a script."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, handler)


def _exit_at_once(*_: object) -> None:
    os._exit(INTERRUPTED)


def _is_interrupt(error: BaseException) -> bool:
    """Return True for KeyboardInterrupt, also from a task, beside the errors that it has caused."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(KeyboardInterrupt) is not None
    return isinstance(error, KeyboardInterrupt)


if __name__ == "__main__":
    main()
