"""`python -m ollama_gateway.simulator --port P --model NAME...`: one simulator, until a signal."""

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


def _arguments(given: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m ollama_gateway.simulator", description="A simulated Ollama."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=11434, help="0 takes a free one")
    parser.add_argument("--model", action="extend", nargs="+", required=True, metavar="NAME")
    parser.add_argument("--token-delay", type=_seconds, default=0.05, metavar="50ms")
    parser.add_argument("--first-token", type=_seconds, default=0.0, metavar="0.2s")
    parser.add_argument("--tokens", type=int, default=len(_WORDS), metavar="N")
    parser.add_argument("--hidden-prompt", type=int, default=0, metavar="N")
    parser.add_argument("--thinking", type=int, default=0, metavar="N", help="thoughts before")
    parser.add_argument("--tool", action="append", default=[], metavar="NAME", help="is called")
    parser.add_argument("--registry", nargs="+", default=[], metavar="NAME", help="can be pulled")
    parser.add_argument("--cached-prompt", type=int, metavar="N", help="tokens told as cached")
    parser.add_argument("--parallel", type=int, default=math.inf, metavar="N", help="at once")
    parser.add_argument("--max-queue", type=int, default=math.inf, metavar="N", help="for loads")
    parser.add_argument("--figures", action="store_true", help=f"answer GET {PATH}")
    parser.add_argument("--version", default="0.33.0")
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
            first_token=options.first_token,
            between_tokens=options.token_delay,
            hidden_prompt=options.hidden_prompt,
            cached_prompt=options.cached_prompt,
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


def main() -> int:
    """Run a simulator until SIGTERM or SIGINT; 1 where the address cannot be had."""
    options = _arguments(sys.argv[1:])
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


if __name__ == "__main__":
    sys.exit(main())
