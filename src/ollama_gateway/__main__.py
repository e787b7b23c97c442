"""`gatewayctl`, also as `python -m ollama_gateway`."""

from __future__ import annotations

import sys

import typer

HEALTH = "health"
"""A container's health check runs this command every few seconds. It does not import the other
commands, which would more than double its cost."""


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == [HEALTH]:
        _run_health()
    else:
        from ollama_gateway.cli.main import run  # noqa: PLC0415 - see HEALTH

        sys.exit(run(sys.argv[1:]))


def _run_health() -> None:
    from ollama_gateway.cli.health import health  # noqa: PLC0415 - see HEALTH

    names = {"help_option_names": ["-h", "--help"]}
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, context_settings=names)
    app.command(HEALTH)(health)
    app(sys.argv[2:], prog_name=f"gatewayctl {HEALTH}")


if __name__ == "__main__":
    main()
