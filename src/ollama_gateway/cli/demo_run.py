"""Run `gatewayctl demo`: two simulated Ollamas, a gateway and a key, in one process, in 10 s.

Only the models are simulated. The sockets are real, the gateway is the one that `serve` runs, and
the client is an ordinary HTTP client. One backend is killed during a chat.
"""

from __future__ import annotations

import json
import signal
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

import attrs
import httpx
import trio
from rich.console import Console

from ollama_gateway.build import Gateway
from ollama_gateway.keys import KEYS_FILE
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.settings import Settings, load
from ollama_gateway.simulator import Model, Simulator
from ollama_gateway.supervisor import drain, supervise

DEMO_MODEL: Final = "llama3.2:3b"
SENTENCE: Final = (
    "The gateway waits for the first word of a backend before it answers, "
    "so no client notices a backend that dies before that."
)
THINKING: Final = 0.8
"""Seconds before the first word, in which a backend is killed."""


@attrs.define
class Stage:
    """The parts that every step of the demo uses."""

    console: Console
    client: httpx.AsyncClient
    simulators: dict[str, Simulator]


async def run_demo() -> None:
    """Run the demo to its end."""
    console = Console(highlight=False)
    simulators = {name: _simulator() for name in ("gpu-1", "gpu-2")}
    async with trio.open_nursery() as nursery:
        ports = {name: await nursery.start(sim.serve) for name, sim in simulators.items()}
        with tempfile.TemporaryDirectory(prefix="ollama-gateway-demo-") as directory:
            settings = _settings(ports, Path(directory))
            key = _key(settings)
            ready = trio.Event()
            running: list[tuple[Gateway, str]] = []

            def on_ready(gateway: Gateway, address: str) -> None:
                running.append((gateway, address))
                ready.set()

            async with trio.open_nursery() as gateways:
                # Other signals, as from Ctrl-C, end the whole demo and not the gateway alone.
                gateways.start_soon(
                    partial(supervise, settings, on_ready=on_ready, signals={signal.SIGCHLD})
                )
                await ready.wait()
                gateway, address = running[0]
                headers = {"authorization": f"Bearer {key}"}
                async with httpx.AsyncClient(
                    base_url=f"http://{address}", headers=headers, trust_env=False, timeout=20
                ) as client:
                    await _play(Stage(console, client, simulators), address)
                drain(gateway, 1)
        nursery.cancel_scope.cancel()


async def _play(stage: Stage, address: str) -> None:
    say = stage.console.print
    say(f"[bold]Two Ollamas, gpu-1 and gpu-2, behind one address:[/] http://{address}")
    tags = (await stage.client.get("/api/tags")).json()
    say(f"Their models, as one list: {', '.join(entry['name'] for entry in tags['models'])}\n")

    say("[bold]1.[/] A chat; the preferred backend answers.")
    await _chat(stage)

    say("[bold]2.[/] Another chat; gpu-1 has it and is [red]killed[/] before its first word.")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_kill_when_asked, stage)
        await _chat(stage)

    say("[bold]3.[/] gpu-1 is dead; the next chat streams all the same.")
    await _chat(stage)
    say("[bold green]No client saw an error.[/] Your own servers: gatewayctl init URL...")


async def _kill_when_asked(stage: Stage) -> None:
    backend = stage.simulators["gpu-1"]
    while not backend.in_flight:  # noqa: ASYNC110 - the simulator has figures, not events
        await trio.sleep(0.01)
    await trio.sleep(THINKING / 2)
    backend.go_down()
    stage.console.print("   [red]gpu-1 is killed[/]")


async def _chat(stage: Stage) -> None:
    ask = {"model": DEMO_MODEL, "messages": [{"role": "user", "content": "What do you do?"}]}
    async with stage.client.stream("POST", "/api/chat", json=ask) as response:
        response.raise_for_status()
        stage.console.print(f"   {response.headers['x-gateway-backend']}: ", end="")
        async for line in response.aiter_lines():
            stage.console.print(json.loads(line)["message"]["content"], end="")
    stage.console.print("\n")


def _simulator() -> Simulator:
    tokens = tuple(f"{word} " for word in SENTENCE.split())
    chat = Model(DEMO_MODEL, tokens=tokens, first_token=THINKING, between_tokens=0.06)
    return Simulator([chat, Model("nomic-embed-text:latest", capabilities=("embedding",))])


def _settings(ports: dict[str, int], directory: Path) -> Settings:
    backends = [{"name": n, "url": f"http://127.0.0.1:{port}"} for n, port in ports.items()]
    environment = {
        "OLLAMA_BACKENDS": json.dumps(backends),
        "GATEWAY_SERVER_BIND": "127.0.0.1:0",
        "GATEWAY_SERVER_ADMIN_BIND": "127.0.0.1:0",
        "GATEWAY_SERVER_EXPOSE_BACKEND": "true",
        "GATEWAY_STORAGE_DATA_DIR": str(directory),
    }
    return load(environ=environment, cwd=directory).settings


def _key(settings: Settings) -> str:
    store = SQLiteKeys(settings.storage.data_dir / KEYS_FILE)
    try:
        _key, secret = store.create("demo")
    finally:
        store.close()
    return secret
