"""The command line as a real process with the real clients, and the server on real sockets."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
import httpx
import ollama
import openai
import pytest
from anyio.abc import TaskGroup
from openai.types.chat import ChatCompletionMessageParam
from openai.types.responses import FunctionToolParam

from ollama_gateway.simulator import Model, Script, Simulator
from tests.simulator.client import ask, request
from tests.support.patience import PATIENCE

COMMAND = [sys.executable, "-m", "ollama_gateway.simulator"]
CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port; yields the process and its address."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments], stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            yield process, line.rpartition(" ")[2].strip()
        finally:
            process.kill()


def test_the_real_clients_pull_think_and_call() -> None:
    """The real clients pull and delete a model, and read a response's events and a tool call."""
    options = ("--model", "m1", "--tokens", "2", "--token-delay", "1ms", "--registry", "far")
    with running(*options, "--thinking", "1", "--tool", "f") as (_, address):
        native = ollama.Client(address)
        steps = [step.status for step in native.pull("far", stream=True)]
        native.copy("far", "near")
        native.delete("far")
        names = {model.model for model in native.list().models}
        thinking = native.chat("m1", [{"role": "user", "content": "hi"}]).message.thinking
        native._client.close()
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
            with client.responses.stream(model="m1", input="hi") as events:
                response = events.get_final_response()
            tools: list[FunctionToolParam] = [
                {"type": "function", "name": "f", "parameters": {}, "strict": None}
            ]
            called = client.responses.create(model="m1", input="hi", tools=tools).output[-1]

    assert (steps[0], steps[-1], names) == (
        "pulling manifest",
        "success",
        {"m1:latest", "near:latest"},
    )
    assert (thinking, response.output_text) == ("Hello", "Hello from")
    assert (called.type, response.usage and response.usage.output_tokens) == ("function_call", 3)


def test_the_real_clients_read_cached_tokens_and_survive_bad_bodies() -> None:
    """Bodies that once ended the process are refused or served, and clients read cached tokens."""
    options = ("--cached-prompt", "4", "--parallel", "1", "--max-queue", "2")
    ask_anthropic = {"model": "m1", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    bad = {"messages": [{"role": "user", "content": 5}]}
    with running("--model", "m1", "--token-delay", "1ms", *options) as (_, address):
        with httpx.Client(base_url=address) as http:
            statuses = [
                http.post("/v1/messages", json=ask_anthropic | odd).status_code
                for odd in ({"system": 5}, bad)
            ]
        with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
            usage = client.chat.completions.create(
                model="m1", messages=[{"role": "user", "content": "x"}]
            ).usage

    assert statuses == [200, 400]
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 4


@pytest.mark.parametrize(("options", "cached"), [((), 34), (("--no-cached-count",), None)])
def test_the_second_turn_is_cached(options: tuple[str, ...], cached: int | None) -> None:
    """A real client reads how much of its conversation the machine had, unless that is old."""
    speed = ("--cache", "0", "--prompt-speed", "1e6", "--token-delay", "1ms", "--tokens", "2")
    with (
        running("--model", "m1", *speed, *options) as (_, address),
        openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client,
    ):
        talk: list[ChatCompletionMessageParam] = [{"role": "user", "content": "x" * 87}]
        said = client.chat.completions.create(model="m1", messages=talk).choices[0].message
        talk += [
            {"role": "assistant", "content": said.content},
            {"role": "user", "content": "y"},
        ]
        usage = client.chat.completions.create(model="m1", messages=talk).usage

    assert usage is not None
    details = usage.prompt_tokens_details
    assert (usage.prompt_tokens, details and details.cached_tokens) == (36, cached)


def test_the_real_clients_list_and_stream() -> None:
    """PyPI's `ollama` and `openai` list the models and stream a chat from a real process."""
    models = ("--model", "llama3.2:3b", "mistral", "--tokens", "3", "--token-delay", "1ms")
    with running(*models) as (_, address):
        native = ollama.Client(address)
        names = [model.model for model in native.list().models]
        message = {"role": "user", "content": "hi"}
        parts = list(native.chat("mistral", [message], stream=True))
        embedded = native.embed("mistral", ["a", "b"])

        with openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
            ids = [model.id for model in client.models.list()]
            chunks = list(
                client.chat.completions.create(
                    model="mistral", messages=[{"role": "user", "content": "hi"}], stream=True
                )
            )
        native._client.close()

    assert names == ids == ["llama3.2:3b", "mistral:latest"]
    assert "".join(part.message.content or "" for part in parts) == "Hello from a"
    assert (parts[-1].done, parts[-1].eval_count) == (True, 3)
    assert len(embedded.embeddings) == 2
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert (text, chunks[-1].choices[0].finish_reason) == ("Hello from a", "stop")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(number: signal.Signals) -> None:
    """The process exits with 0 and prints its address on one line."""
    with running("--model", "m1") as (process, address):
        process.send_signal(number)
        _, rest = process.communicate(timeout=PATIENCE)

    assert address.startswith("http://127.0.0.1:")
    assert (process.returncode, rest) == (0, "")


def test_a_taken_port_is_one_line() -> None:
    """If the address is not available, it prints so and exits with 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [*COMMAND, "--port", port, "--model", "m1"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    assert ended.returncode == 1
    assert ended.stderr.startswith(f"cannot listen on 127.0.0.1:{port}")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [["--model", "bad name"], ["--model", "m1", "--first-token", "x"], []]
)
def test_bad_arguments_exit_2(arguments: list[str]) -> None:
    """A missing model, an invalid name and an invalid duration are usage errors."""
    ended = subprocess.run(
        [*COMMAND, *arguments], capture_output=True, timeout=PATIENCE, check=False
    )

    assert ended.returncode == 2


async def start(tasks: TaskGroup, simulator: Simulator) -> int:
    """Serve on a free port."""
    port = await tasks.start(simulator.serve)
    assert isinstance(port, int)
    return port


async def test_a_cut_is_a_reset_on_a_socket_too() -> None:
    """A client reads the chunk that was sent, then a reset in place of the end."""
    simulator = Simulator([Model("m1")])
    simulator.script(Script(cut_after=0, reset=True))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            port = await start(tasks, simulator)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(request("POST", "/api/chat", CHAT))
                with pytest.raises(anyio.BrokenResourceError):
                    await stream.receive()
            tasks.cancel_scope.cancel()


async def test_a_socket_that_closes_is_noticed() -> None:
    """A client's close ends its request while the answer hangs."""
    simulator = Simulator([Model("m1")])
    simulator.script(Script(hang_after=1))
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            port = await start(tasks, simulator)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(request("POST", "/api/chat", CHAT))
                await stream.receive()
            while simulator.seen[0].gone_at is None:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()

    assert simulator.in_flight == 0


async def test_going_down_closes_sockets() -> None:
    """Open connections end at once, and new ones as soon as they are made."""
    simulator = Simulator([Model("m1")])
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            port = await start(tasks, simulator)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                before = await ask(stream, "GET", "/api/version")
                simulator.go_down()
                with pytest.raises(anyio.EndOfStream):
                    await stream.receive()
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
            tasks.cancel_scope.cancel()

    assert before.status == 200
