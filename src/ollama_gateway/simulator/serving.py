"""What `python -m ollama_gateway.simulator` runs: one simulator, until a signal."""

from __future__ import annotations

import argparse
import math
import re
import signal
import sys
from functools import partial

import anyio

from ollama_gateway.simulator.figures import PATH
from ollama_gateway.simulator.model import Call, Model
from ollama_gateway.simulator.names import InvalidName
from ollama_gateway.simulator.runners import Limits
from ollama_gateway.simulator.simulator import Simulator

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}
_WORDS = ("Hello", "from", "a", "simulated", "model,", "which", "needs", "no", "GPU.")


def _seconds(text: str) -> float:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration like 50ms or 0.2s")
    return float(match[1]) * _UNITS[match[2]]


def _speed(text: str) -> float:
    speed = float(text)
    if not speed > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return speed


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ollama_gateway.simulator", description="A simulated Ollama."
    )
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=11434, help="port to listen on; 0 takes a free one")
    add("--model", action="extend", nargs="+", required=True, metavar="NAME", help="models to host")
    add("--token-delay", type=_seconds, default=0.05, metavar="50ms", help="time between tokens")
    add("--load-time", type=_seconds, default=0.0, metavar="3s", help="time to load a model")
    add("--first-token", type=_seconds, default=0.0, metavar="0.2s", help="time to the first token")
    add("--tokens", type=int, default=len(_WORDS), metavar="N", help="tokens of each answer")
    add("--hidden-prompt", type=int, default=0, metavar="N", help="tokens added to each prompt")
    add("--thinking", type=int, default=0, metavar="N", help="thoughts before each answer")
    add("--tool", action="append", default=[], metavar="NAME", help="a tool that models call")
    add("--registry", nargs="+", default=[], metavar="NAME", help="models that can be pulled")
    add("--cached-prompt", type=int, metavar="N", help="prompt tokens reported as cached")
    add("--cache", type=int, metavar="N", help="tokens of the host's prefix cache")
    add("--no-cached-count", action="store_true", help="do not report what the cache has saved")
    add("--prompt-speed", type=_speed, default=math.inf, metavar="N", help="prompt tokens a second")
    add("--parallel", type=int, default=math.inf, metavar="N", help="requests served at once")
    add("--max-queue", type=int, default=math.inf, metavar="N", help="requests waiting for loads")
    add("--figures", action="store_true", help=f"answer GET {PATH}")
    add("--version", default="0.33.0", help="version to report")
    return parser.parse_args(given)


def _tokens(count: int) -> tuple[str, ...]:
    words = [_WORDS[index % len(_WORDS)] for index in range(count)]
    return tuple(words[:1] + [f" {word}" for word in words[1:]])


def _models(options: argparse.Namespace, names: list[str]) -> list[Model]:
    thinking = _tokens(options.thinking)
    abilities = {"tools": options.tool, "thinking": thinking}
    return [
        Model(
            name,
            _tokens(options.tokens),
            capabilities=("completion", *(ability for ability in abilities if abilities[ability])),
            thinking=thinking,
            calls=tuple(Call(tool) for tool in options.tool),
            load_time=options.load_time,
            first_token=options.first_token,
            between_tokens=options.token_delay,
            hidden_prompt=options.hidden_prompt,
            cached_prompt=options.cached_prompt,
            cache=options.cache,
            tells_cached=not options.no_cached_count,
            prompt_speed=options.prompt_speed,
        )
        for name in names
    ]


async def _serve(simulator: Simulator, host: str, port: int) -> int:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            try:
                bound = await tasks.start(partial(simulator.serve, recovers=True), host, port)
            except OSError as error:
                print(f"cannot listen on {host}:{port}: {error}", file=sys.stderr)  # noqa: T201
                return 1
            print(f"simulated Ollama on http://{host}:{bound}", file=sys.stderr, flush=True)  # noqa: T201
            async for _ in signals:
                tasks.cancel_scope.cancel()
    return 0


def serve(arguments: list[str]) -> int:
    """Run a simulator until SIGTERM or SIGINT; return 1 if the address is not available."""
    options = _arguments(arguments)
    try:
        models = _models(options, options.model)
        registry = _models(options, options.registry)
    except InvalidName as error:
        print(f"--model: {error}", file=sys.stderr)  # noqa: T201
        return 2
    simulator = Simulator(
        models,
        registry=registry,
        version=options.version,
        is_recording=False,
        shows_figures=options.figures,
        limits=Limits(options.parallel, options.max_queue),
    )
    return anyio.run(_serve, simulator, options.host, options.port, backend="trio")
