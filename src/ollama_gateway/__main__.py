"""`gatewayctl`, also as `python -m ollama_gateway`."""

from __future__ import annotations

from ollama_gateway.cli.main import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
