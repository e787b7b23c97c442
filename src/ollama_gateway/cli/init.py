"""`gatewayctl init URL...`: probe the given servers and write a commented `gateway.toml`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import trio
import typer

from ollama_gateway.build_backends import build_backends
from ollama_gateway.cli.backends import Probe, probe_all
from ollama_gateway.cli.output import count_of, exit_with, say
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings, SettingsError, load

UrlsArgument = Annotated[list[str], typer.Argument(metavar="URL", help="Ollama servers.")]
OutputOption = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]

DEFAULT_FILE = Path("gateway.toml")
HEAD = """\
# Ollama Gateway. Every setting, its default and its unit: docs/operate/configuration.md

[server]
bind = "127.0.0.1:11435"        # for clients; "0.0.0.0:11435" to serve other machines
admin_bind = "127.0.0.1:11436"  # /healthz /readyz /metrics /status.json
"""


def init(
    urls: UrlsArgument,
    output: OutputOption = DEFAULT_FILE,
    force: ForceOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Probe the given servers and write settings for them, also for those that are down."""
    name = printable(str(output))
    if output.exists() and not force:
        exit_with(2, f"{name} exists: --force overwrites it, --output names another file")
    settings = _settings(urls)
    found = trio.run(probe_all, build_backends(settings).all, settings.discovery.timeout)
    probes = [probe for probe, _listing in found]
    text = HEAD + "".join(map(_table, probes))
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        exit_with(1, f"cannot write {name}: {error.strerror}")
    for probe in probes:
        state = count_of(len(probe.models), "model") if probe.ok else f"down: {probe.error}"
        say(f"{probe.name}  {probe.url}  {state}")
    option = "" if output == DEFAULT_FILE else f" --config {name}"
    say(f"wrote {name}; next: gatewayctl keys create NAME{option}; gatewayctl serve{option}")


def _settings(urls: list[str]) -> Settings:
    """Return settings with only these backends, checked as those of a file are."""
    backends = [
        {"name": f"ollama-{number}", "url": url if "://" in url else f"http://{url}"}
        for number, url in enumerate(urls, start=1)
    ]
    try:
        return load(environ={"OLLAMA_BACKENDS": json.dumps(backends)}, cwd=Path("/")).settings
    except SettingsError as error:
        exit_with(2, *error.problems)


def _table(probe: Probe) -> str:
    version = printable(probe.version or "")  # a line break would end the comment
    state = (
        f"Ollama {version}, {count_of(len(probe.models), 'model')}"
        if probe.ok
        else "did not answer"
    )
    listed = "".join(f"#   {printable(name)}\n" for name in probe.models[:20])
    return (
        f"\n# {state} when this was written\n{listed}[[backends]]\n"
        f"name = {json.dumps(probe.name)}\nurl = {json.dumps(probe.url)}\n"
    )
