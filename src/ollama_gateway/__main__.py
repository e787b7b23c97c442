"""`gatewayctl`, also as `python -m ollama_gateway`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main() -> None:
    """Run the command line."""
    try:
        code = _run(sys.argv[1:])
    except KeyboardInterrupt:
        code = 130  # as a shell reports it
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # Python flushes it at the end
        code = 1
    sys.exit(code)


def _run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; each command imports only what it runs."""
    if arguments[:1] == ["health"]:
        from ollama_gateway.cli.health import answer, question_of  # noqa: PLC0415

        if question := question_of(arguments[1:]):
            return answer(question)
    from ollama_gateway.cli.main import run  # noqa: PLC0415

    return run(arguments)


if __name__ == "__main__":
    main()
