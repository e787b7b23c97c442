"""The commands that lead from a new settings file to a first chat, ready to paste into a shell."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from ollama_gateway.backends.catalog import Listing, names
from ollama_gateway.cli.reaching import public_url
from ollama_gateway.settings import ServerSettings


def next_steps(server: ServerSettings, config: Path | None, model: str | None) -> list[str]:
    """Return the lines: one terminal serves, another makes a key and chats.

    Args:
        server: the settings of the listener.
        config: the settings file, if commands do not find it themselves.
        model: a model that chats; without one the commands list models.

    """
    option = f" --config {shlex.quote(str(config))}" if config else ""
    program = _program()
    url = public_url(server)
    return [
        "Next, in one terminal:",
        f"  {program} serve{option}",
        "and in another:",
        f"  KEY=$({program} keys create me{option})",
        f'  curl -H "Authorization: Bearer $KEY" {_request(url, model)}',
        f"  OLLAMA_HOST={url}/k/$KEY ollama {f'run {shlex.quote(model)}' if model else 'list'}",
    ]


def chat_model(listings: Iterable[Listing]) -> str | None:
    """Return the first listed model that can chat, or None."""
    for listing in listings:
        entries = [
            entry
            for entry in listing.models.values()
            if "completion" in (entry.get("capabilities") or ["completion"])
        ]
        for name in names(entries):
            return name
    return None


def _request(url: str, model: str | None) -> str:
    if model is None:
        return f"{url}/api/tags"
    chat = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return f"{url}/api/chat -d {shlex.quote(json.dumps(chat))}"


def _program() -> str:
    """Return how this program was started, as a shell needs it."""
    if Path(sys.argv[0]).name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m ollama_gateway"
    found = shutil.which("gatewayctl")
    is_on_path = found is not None and Path(found).resolve() == Path(sys.argv[0]).resolve()
    return "gatewayctl" if is_on_path else shlex.quote(sys.argv[0])
