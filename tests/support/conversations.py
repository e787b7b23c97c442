"""Many conversations on simulated machines with prefix caches, in virtual time.

Each conversation sends its whole history again in each turn, waits for the answer, thinks, and goes
on. `measure` runs them through one or more gateways that share nothing but the machines and the
keys, and returns what the clients and the machines have seen.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from statistics import median
from typing import Literal

import attrs
import trio

from ollama_gateway.keys.key import ENDPOINT_GROUPS, APIKey, digest_of, generate, utc_now
from ollama_gateway.keys.location import KEYS_FILE
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.keys.store import KeySecret, StoredKey
from ollama_gateway.simulator import Limits, Model, Simulator
from tests.support.scenario import Scenario, open_scenario

Mode = Literal["oracle", "without", "affinity"]
"""Each conversation pinned to one machine; no affinity; affinity."""
Choose = Callable[[random.Random, float], int]
TOKEN = 4
"""Characters of a token, as the simulator counts them."""
LENGTH = 10_000
"""Tokens of a conversation in mid-run."""
POLLS = 10.0


@attrs.frozen
class Machines:
    """Equal machines, each of which serves one request at a time."""

    number: int = 3
    conversations: int = 16
    """For which the host cache of each has room."""
    prompt_speed: float = 2000.0
    """Tokens a second."""
    first_token: float = 0.03
    between_tokens: float = 0.2
    answer: int = 5
    """Tokens."""
    tells: bool = True
    """Whether they report cached counts; if not, the clients' dialect reports no durations."""
    slots: int = 0
    """The setting of the gateway."""


@attrs.frozen
class Talks:
    """Conversations that are alike."""

    number: int = 24
    turns: int = 12
    first: int = 4000
    """Tokens of the first prompt."""
    growth: int = 1000
    """Tokens by which each prompt is longer than the one before."""
    think: float = 30.0
    """Seconds between an answer and the next turn, on average."""
    prefix: str = "t"

    @property
    def best_share(self) -> float:
        """The cached share if each prompt is read once, and then found where it was read."""
        prompts = [self.first + self.growth * turn for turn in range(self.turns)]
        return 1 - prompts[-1] / sum(prompts)


@attrs.define
class Turn:
    """One request, as its client has seen it."""

    talk: str
    backend: str
    kind: str
    first_chunk: float
    """Seconds."""
    prompt: int
    cached: int
    """Tokens; 0 where they are not reported."""


@attrs.define
class Outcome:
    """All turns, and the work of the machines."""

    turns: list[Turn] = attrs.field(factory=list)
    failed: int = 0
    prompt: int = 0
    cached: int = 0
    """Tokens of all machines."""
    busy: list[float] = attrs.field(factory=list)
    """Seconds for which each machine has worked."""

    @property
    def cached_share(self) -> float:
        """Cached tokens as a share of all prompt tokens."""
        return self.cached / self.prompt

    @property
    def busiest(self) -> float:
        """The work of the busiest machine, as a multiple of the mean."""
        return max(self.busy) * len(self.busy) / sum(self.busy)

    def p50(self, talks: str = "") -> float:
        """Return the median of the times to the first chunk."""
        return median(self._times(talks))

    def p99(self, talks: str = "") -> float:
        """Return the time to the first chunk that one in a hundred exceeds."""
        times = self._times(talks)
        return times[int(len(times) * 0.99)]

    def _times(self, talks: str) -> list[float]:
        return sorted(turn.first_chunk for turn in self.turns if turn.talk.startswith(talks))

    @property
    def kinds(self) -> Counter[str]:
        """How many turns were new, kept and moved."""
        return Counter(turn.kind for turn in self.turns)

    def by_talk(self) -> dict[str, list[Turn]]:
        """Return the turns of each conversation, in order."""
        found: dict[str, list[Turn]] = defaultdict(list)
        for turn in self.turns:
            found[turn.talk].append(turn)
        return found


def simulators(machines: Machines) -> dict[str, Simulator]:
    """Return the machines by name, with the model loaded."""
    model = Model(
        "m1:latest",
        ("word",) * machines.answer,
        context_length=1 << 20,
        cache=machines.conversations * LENGTH,
        tells_cached=machines.tells,
        prompt_speed=machines.prompt_speed,
        first_token=machines.first_token,
        between_tokens=machines.between_tokens,
    )
    found = {}
    for number in range(machines.number):
        simulator = Simulator([model], limits=Limits(parallel=1), keep_alive=1e9)
        simulator.load("m1:latest")
        found["abcdefgh"[number]] = simulator
    return found


@attrs.define
class Run:
    """One run: its gateways and machines, and the turns so far."""

    gateways: list[Scenario]
    key: str
    machines: Machines
    mode: Mode
    seed: int
    choose: Choose
    outcome: Outcome = attrs.field(factory=Outcome, init=False)

    async def talk(self, talks: Talks, number: int) -> None:
        """Hold one conversation to its end."""
        chance = random.Random(f"{self.seed} {talks.prefix} {number}")  # noqa: S311 - no secret
        name = f"{talks.prefix}{number}"
        await trio.sleep(chance.random() * talks.think)
        messages = [_message("user", name, talks.first)]
        for turn in range(talks.turns):
            await self._ask(name, number, messages, chance)
            answer = {"role": "assistant", "content": "word" * self.machines.answer}
            more = talks.growth - self.machines.answer
            messages += [answer, _message("user", f"{name}.{turn}", more)]
            await trio.sleep(chance.expovariate(1 / talks.think) if talks.think else 0)

    async def _ask(
        self, name: str, number: int, messages: list[dict[str, str]], chance: random.Random
    ) -> None:
        headers = {"x-gateway-session": name}
        if self.mode == "oracle":
            names = list(self.gateways[0].simulators)
            headers["x-gateway-backend"] = names[number % len(names)]
        path = "/api/chat" if self.machines.tells else "/v1/chat/completions"
        asked: dict[str, object] = {"model": "m1", "messages": messages, "stream": True}
        began = trio.current_time()
        gateway = self.gateways[self.choose(chance, began)]
        reply = await gateway.ask(path, asked, headers=headers, key=self.key)
        if not reply.is_complete or reply.first_chunk_at is None or reply.status != 200:
            self.outcome.failed += 1
            return
        end = reply.lines[-1] if self.machines.tells else {}
        turn = Turn(
            name,
            reply.headers["x-gateway-backend"],
            reply.headers.get("x-gateway-affinity", "-"),
            reply.first_chunk_at - began,
            end.get("prompt_eval_count", 0),
            end.get("prompt_eval_cached_count", 0),
        )
        self.outcome.turns.append(turn)

    async def poll(self) -> None:
        """Poll the machines from all gateways, again and again."""
        while True:
            await trio.sleep(POLLS)
            for gateway in self.gateways:
                await gateway.poll()

    def end(self) -> Outcome:
        """Return the outcome."""
        speed = self.machines
        for simulator in self.gateways[0].simulators.values():
            figures = simulator.figures
            unread = figures.prompt_tokens - figures.cached_tokens
            written = figures.completion_tokens * speed.between_tokens
            self.outcome.busy.append(unread / speed.prompt_speed + written)
            self.outcome.prompt += figures.prompt_tokens
            self.outcome.cached += figures.cached_tokens
        return self.outcome


async def measure(
    mode: Mode,
    machines: Machines,
    *talks: Talks,
    seed: int = 1,
    gateways: int = 1,
    choose: Choose = lambda _chance, _now: 0,
    kill_at: float = math.inf,
) -> Outcome:
    """Hold all conversations at once, and return the outcome.

    Args:
        mode: where each conversation goes.
        machines: that serve them.
        talks: groups of conversations.
        seed: of the pauses, and of the places of the conversations.
        gateways: that share the machines and the keys, and nothing else.
        choose: returns which gateway the next request goes to.
        kill_at: when the first machine goes down.

    """
    fleet = simulators(machines)
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        store = stack.enter_context(closing(SQLiteKeys(directory / KEYS_FILE)))
        key = _add_key(store, seed)
        settings = {
            "GATEWAY_AFFINITY_ENABLED": str(mode == "affinity").lower(),
            "GATEWAY_STORAGE_DATA_DIR": str(directory),
            "GATEWAY_RACE_HEDGE_AFTER": "off",
        }
        opened = [
            await stack.enter_async_context(
                open_scenario(fleet, settings=settings, slots=machines.slots, is_one_tier=True)
            )
            for _ in range(gateways)
        ]
        run = Run(opened, key, machines, mode, seed, choose)
        async with trio.open_nursery() as beside:
            beside.start_soon(run.poll)
            beside.start_soon(_kill, fleet, kill_at)
            async with trio.open_nursery() as holding:
                for group in talks:
                    for number in range(group.number):
                        holding.start_soon(run.talk, group, number)
            beside.cancel_scope.cancel()
        return run.end()


def _add_key(store: SQLiteKeys, seed: int) -> str:
    """Add a key whose id, and so the order of the machines, depends on the seed alone."""
    secret = generate("seed" + chr(ord("a") + seed) * 4)
    key = APIKey(secret.id, "all", endpoints=frozenset(ENDPOINT_GROUPS), created_at=utc_now())
    store.merge([StoredKey(key, frozenset({KeySecret(digest_of(secret.text), key.id)}))])
    return secret.text


async def _kill(fleet: Mapping[str, Simulator], moment: float) -> None:
    await trio.sleep_until(moment)
    next(iter(fleet.values())).down = True


def _message(role: str, name: str, tokens: int) -> dict[str, str]:
    text = f"{name} " * (tokens * TOKEN // (len(name) + 1) + 1)
    return {"role": role, "content": text[: tokens * TOKEN]}
