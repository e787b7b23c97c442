"""Run `gatewayctl demo`: two simulated Ollamas, a gateway and two keys, in one process.

Only the models are simulated. The sockets are real, the gateway is the one that `serve` runs, and
the client is an ordinary HTTP client.
"""

from __future__ import annotations

import json
import signal
import tempfile
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import httpx
import trio
from rich.console import Console

from ollama_gateway import log_output
from ollama_gateway.cli.demo_acts import (
    FIRST_WORD,
    MODEL,
    READ,
    READER,
    SENTENCES,
    Stage,
    play,
)
from ollama_gateway.gateway import Gateway
from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.keys.location import KEYS_FILE
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.settings import Settings, load
from ollama_gateway.simulator import Model, Simulator
from ollama_gateway.supervisor import drain, supervise

BUDGET: Final = 1_000
"""Tokens a day of the second key."""
PROMPT: Final = 190
"""Tokens of each prompt, which is near the most that the gateway reserves for it."""


def run(*, stay: bool) -> None:
    """Run the demo in an event loop of its own."""
    log_output.configure("error", "text", summaries={"audit head": log_output.left_out})
    trio.run(partial(run_demo, Console(highlight=False), stay=stay))


async def run_demo(console: Console, *, stay: bool) -> None:
    """Run the demo to its end, which with `stay` is a signal."""
    simulators = {name: _simulator() for name in ("gpu-1", "gpu-2")}
    async with trio.open_nursery() as nursery:
        ports = {name: await nursery.start(sim.serve) for name, sim in simulators.items()}
        with tempfile.TemporaryDirectory(prefix="ollama-gateway-demo-") as directory:
            settings = _settings(ports, Path(directory))
            keys = _keys(settings)
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
                async with httpx.AsyncClient(
                    base_url=f"http://{address}", trust_env=False, timeout=20
                ) as client:
                    stage = Stage(console, client, simulators, settings.storage.data_dir, *keys)
                    await play(stage, BUDGET)
                    if stay:
                        await _stay(stage, address)
                drain(gateway, 1)
        nursery.cancel_scope.cancel()


async def _stay(stage: Stage, address: str) -> None:
    ask = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hi"}]})
    stage.console.print("\nThe gateway stays until Ctrl-C. Try it from another terminal:\n")
    for line in (
        f"curl http://{address}/api/chat -H 'Authorization: Bearer {stage.key}' -d '{ask}'",
        f"OLLAMA_HOST=http://{address}/k/{stage.key} ollama run {MODEL}",
    ):
        stage.console.print(line, soft_wrap=True, markup=False)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            return


def _simulator() -> Simulator:
    chats = [
        Model(
            name,
            tokens=tuple(f"{word} " for word in sentence.split()),
            first_token=FIRST_WORD,
            between_tokens=0.05,
            prompt_tokens=PROMPT,
        )
        for name, sentence in SENTENCES.items()
    ]
    reader = Model(
        READER,
        tuple(f"{word} " for word in READ.split()),
        context_length=100_000,
        cache=100_000,
        prompt_speed=2000,
        first_token=0.1,
    )
    simulator = Simulator([*chats, reader])
    for name in (*SENTENCES, READER):
        simulator.load(name)
    return simulator


def _settings(ports: dict[str, int], directory: Path) -> Settings:
    backends = [{"name": n, "url": f"http://127.0.0.1:{port}"} for n, port in ports.items()]
    environment = {
        "OLLAMA_BACKENDS": json.dumps(backends),
        "GATEWAY_SERVER_BIND": "127.0.0.1:0",
        "GATEWAY_SERVER_ADMIN_BIND": "127.0.0.1:0",
        "GATEWAY_SERVER_EXPOSE_BACKEND": "true",
        "GATEWAY_RACE_HEDGE_AFTER": "700ms",
        "GATEWAY_RACE_MAX_HEDGE_RATIO": "1",
        "GATEWAY_STORAGE_DATA_DIR": str(directory),
    }
    return load(environ=environment, cwd=directory).settings


def _keys(settings: Settings) -> tuple[str, str]:
    with closing(SQLiteKeys(settings.storage.data_dir / KEYS_FILE)) as store:
        _, key = store.create("demo")
        _, limited = store.create("team", limits=KeyLimits(tokens_per_day=BUDGET))
    return key, limited
