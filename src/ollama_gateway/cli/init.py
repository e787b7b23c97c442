"""What `gatewayctl init URL...` runs: probe the given servers and write a commented `gateway.toml`.

It asks no questions. All servers get the same priority, so that they share the load.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import trio

from ollama_gateway.backends.connecting import REFUSED
from ollama_gateway.build_backends import build_backends
from ollama_gateway.cli.backends import Probe, probe_all
from ollama_gateway.cli.first_steps import chat_model, next_steps
from ollama_gateway.cli.given_servers import OLLAMA_PORT, GivenServer, is_remote, read_servers
from ollama_gateway.cli.init_command import DEFAULT_FILE
from ollama_gateway.cli.output import count_of, exit_with, say
from ollama_gateway.printable import printable
from ollama_gateway.settings import ServerSettings, Settings, SettingsError, load

HEAD = """\
# Ollama Gateway. Every setting, its default and its unit: docs/operate/configuration.md

[server]
bind = "127.0.0.1:11435"        # for clients; "0.0.0.0:11435" to serve other machines
admin_bind = "127.0.0.1:11436"  # /healthz /readyz /metrics /status.json
"""


def init(urls: list[str], output: Path, *, force: bool) -> None:
    """Probe the servers, write the settings, and say what to do next."""
    name = printable(str(output))
    if output.exists() and not force:
        exit_with(2, f"{name} exists: --force overwrites it, --output names another file")
    servers, problems = read_servers(urls)
    if problems:
        exit_with(2, *problems)
    settings = _settings(servers)
    found = trio.run(probe_all, build_backends(settings).all, settings.discovery.timeout)
    probes = [probe for probe, _listing in found]
    text = HEAD + "".join(map(_table, probes))
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        exit_with(1, f"cannot write {name}: {error.strerror}")
    for server, probe in zip(servers, probes, strict=True):
        _report(server, probe)
    say(f"wrote {name}")
    if os.environ.get("OLLAMA_BACKENDS"):
        say("OLLAMA_BACKENDS is set, and wins over the servers in this file: unset it", err=True)
    model = chat_model(listing for _probe, listing in found if listing)
    for line in next_steps(_listener(output), None if output == DEFAULT_FILE else output, model):
        say(line)


def _settings(servers: list[GivenServer]) -> Settings:
    """Return settings with only these backends, checked as those of a file are."""
    backends = [{"name": server.name, "url": server.url} for server in servers]
    try:
        return load(environ={"OLLAMA_BACKENDS": json.dumps(backends)}, cwd=Path("/")).settings
    except SettingsError as error:
        exit_with(2, *error.problems)


def _listener(output: Path) -> ServerSettings:
    """Return the listener of the settings in force; the defaults if others are wrong."""
    try:
        return load(output).settings.server
    except SettingsError:
        return ServerSettings()


def _report(server: GivenServer, probe: Probe) -> None:
    """Print what the probe has found, and what to do where the server does not answer."""
    state = count_of(len(probe.models), "model") if probe.ok else f"down: {probe.error}"
    assumed = f" (no port given: {OLLAMA_PORT}, Ollama's own)" if server.lacked_port else ""
    say(f"{probe.name}  {probe.url}{assumed}  {state}")
    if probe.error == f"cannot connect: {REFUSED}" and is_remote(probe.url):
        say(
            "  Ollama listens on loopback unless OLLAMA_HOST=0.0.0.0: set that on this machine,"
            " and restart Ollama"
        )


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
        "priority = 1  # equal priorities share the load\n"
    )
