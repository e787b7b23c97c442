"""The four acts of `gatewayctl demo`, each a real exchange with the gateway.

The times that each act shows are those of its audit record, as in `gatewayctl audit show`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import attrs
import httpx
import trio
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from ollama_gateway.cli.audit.render import timeline
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.read.audit_log import AuditLog
from ollama_gateway.simulator import Script, Simulator

MODEL: Final = "llama3.2"
SENTENCES: Final = {
    MODEL: "One machine was slow, so a second one was asked as well, and the first word won.",
    "qwen3": (
        "The machine that was asked first is gone. It had said nothing yet, "
        "so another one could answer, and the client saw one whole answer."
    ),
    "gemma3": "Each answer is paid for from the budget of its key.",
}
"""Answers by model; each act asks a model of its own."""
FIRST_WORD: Final = 0.4
"""Seconds until a simulated model says its first word."""
SLOW: Final = 8
"""Seconds for which a machine is held up."""
MARGIN: Final = 3
READER: Final = "mistral"
READ: Final = "I have read it."
"""A model that has a prefix cache, and its answer."""
TEXT: Final = 4000
"""Words of a text that takes it a while to read."""


@attrs.frozen
class Stage:
    """The parts that every act uses."""

    console: Console
    client: httpx.AsyncClient
    simulators: dict[str, Simulator]
    data_dir: Path
    key: str
    limited_key: str

    def say(self, text: str, indent: int = 0, *, first: str = "") -> None:
        """Print a paragraph, wrapped at words, with `first` before its first line."""
        margin = f"{first:>{indent}}"
        for line in Text.from_markup(text).wrap(self.console, self.console.width - len(margin)):
            line.rstrip()
            self.console.print(margin, line, sep="")
            margin = " " * len(margin)


async def play(stage: Stage, budget: int) -> None:
    """Play the acts in their order.

    Args:
        stage: what they use.
        budget: tokens a day of the limited key.

    """
    stage.say(
        "A gateway in front of two machines, [bold]gpu-1[/] and [bold]gpu-2[/]. "
        "The gateway is real; the two Ollamas are simulated, so that no GPU is needed."
    )
    await _overtake(stage)
    await _lose(stage)
    await _spend(stage, budget)
    await _return(stage)
    stage.say("\n[bold green]No client saw an error.[/] With your own machines:")
    stage.say("gatewayctl init URL URL...", MARGIN)


async def _overtake(stage: Stage) -> None:
    stage.say("\n[bold]1. A hedge overtakes a slow machine[/]")
    stage.say(f"gpu-1 is held up for {SLOW} s. The chat does not wait for it.", MARGIN)
    stage.simulators["gpu-1"].script(Script(before=SLOW))
    await _chat(stage, MODEL)


async def _lose(stage: Stage) -> None:
    stage.say("\n[bold]2. A machine dies, and its chat goes on[/]")
    stage.say("gpu-1 works at a chat and is [red]killed[/] before its first word.", MARGIN)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_kill_when_asked, stage.simulators["gpu-1"])
        await _chat(stage, "qwen3")
    stage.simulators["gpu-1"].come_back()


async def _kill_when_asked(backend: Simulator) -> None:
    while not backend.in_flight:  # noqa: ASYNC110 - the simulator has figures, not events
        await trio.sleep(0.01)
    await trio.sleep(FIRST_WORD / 2)
    backend.go_down()


async def _spend(stage: Stage, budget: int) -> None:
    stage.say("\n[bold]3. A budget stops exactly[/]")
    stage.say(
        f"The key of the team has {budget} tokens a day. A chat that may need more than is left "
        "is refused before a machine works for it.",
        MARGIN,
    )
    used, number = 0, 0
    while True:
        number += 1
        ask = {**_ask("gemma3"), "stream": False, "options": {"num_predict": 20}}
        headers = {"authorization": f"Bearer {stage.limited_key}"}
        response = await stage.client.post("/api/chat", json=ask, headers=headers)
        answer = response.json()
        if response.status_code != httpx.codes.OK:
            refused = f"[red]{response.status_code}[/] {escape(answer['error'])}"
            stage.say(refused, first=f"{'':{MARGIN}}chat {number}  ")
            return
        spent = answer["prompt_eval_count"] + answer["eval_count"]
        used += spent
        stage.say(f"chat {number}  {spent} tokens, {budget - used} left", MARGIN)


async def _return(stage: Stage) -> None:
    stage.say("\n[bold]4. A conversation returns to its machine[/]")
    stage.say(
        "A chat has a long text. Its second turn goes to the machine that has read the text, and "
        "that machine does not read it again.",
        MARGIN,
    )
    turn = {"role": "user", "content": "word " * TEXT}
    messages = [turn, {"role": "assistant", "content": READ + " "}, {**turn, "content": "?"}]
    headers = {"authorization": f"Bearer {stage.key}"}
    for number, sent in ((1, messages[:1]), (2, messages)):
        ask = {"model": READER, "stream": True, "messages": sent}
        response = await stage.client.post("/api/chat", json=ask, headers=headers)
        response.raise_for_status()
        record = await _record(stage.data_dir, response.headers["x-request-id"])
        stage.say(
            f"turn {number}  {record['backend']} read "
            f"{record['prompt_tokens'] - (record['cached_tokens'] or 0):,} of "
            f"{record['prompt_tokens']:,} tokens; the first word came after "
            f"[bold]{record['ttft_ms'] / 1000:.1f} s[/]",
            MARGIN,
        )


async def _chat(stage: Stage, model: str) -> None:
    """Print an answer as it streams, then what happened to its request."""
    headers = {"authorization": f"Bearer {stage.key}"}
    async with stage.client.stream("POST", "/api/chat", json=_ask(model), headers=headers) as reply:
        reply.raise_for_status()
        await _print_words(stage.console, reply)
        request_id = reply.headers["x-request-id"]
    record = await _record(stage.data_dir, request_id)
    (_, arrived), *later = timeline(record)
    for when, what in (("0 ms", arrived), *later):
        stage.say(escape(what), first=f"{when:>{MARGIN + 9}}  ")


async def _print_words(console: Console, reply: httpx.Response) -> None:
    """Print a streamed answer, with lines broken at words."""
    name = reply.headers["x-gateway-backend"]
    console.print(f"{'':{MARGIN}}[bold]{name}:[/]", end="")
    column = start = MARGIN + len(name) + 1
    async for line in reply.aiter_lines():
        word = json.loads(line)["message"]["content"].strip()
        if column + 1 + len(word) > console.width:
            console.print(f"\n{'':{start}}", end="")
            column = start
        console.print(f" {word}" if word else "", end="", markup=False)
        column += 1 + len(word)
    console.print()


async def _record(data_dir: Path, request_id: str) -> Document:
    """Return the audit record of a request, once the journal has its end."""
    audit_log = AuditLog(data_dir, lambda _: None)
    while True:
        found = audit_log.find(request_id)
        if found is not None and found.document["outcome"] is not None:
            return found.document
        await trio.sleep(0.05)


def _ask(model: str) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": "What do you do?"}]}
