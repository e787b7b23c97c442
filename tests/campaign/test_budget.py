"""A budget under many requests at once: never exceeded, and used."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle

from ollama_gateway.keys.key import KeyLimits
from tests.campaign.client import LIMITED, OK, UNAVAILABLE, Request, eventually, until_served
from tests.campaign.conftest import Note
from tests.campaign.history import History
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import Fleet

MODEL = "quick:1"
PROMPT = 11
"""Tokens that the simulator counts for each prompt."""
GENERATIONS = (300, 900)
"""Range of tokens that each may generate, and does; large beside a prompt's bound."""


def served(fleet: Fleet) -> int:
    """Return the tokens that the simulator has served."""
    figures = fleet.figures("quick")
    return figures.prompt_tokens + figures.completion_tokens


def is_quiet(fleet: Fleet) -> bool:
    """Whether no request is open and no settlement waits."""
    limits = [gateway.status()["limits"] for gateway in fleet.gateways]
    return all((one["requests"], one["settlements_waiting"]) == (0, 0) for one in limits)


def test_a_budget_is_kept_and_used(shared: Fleet, sizes: Sizes, note: Note) -> None:
    """Refused clients that retry get the whole budget and no token more, at every moment."""
    budget = sizes.admitted * (PROMPT + sum(GENERATIONS) // 2)
    key, text = shared.create_key("budget", KeyLimits(tokens_per_month=budget))
    history, before = History(), served(shared)
    gateways = cycle(shared.gateways)

    def client(seed: int) -> None:
        random_ = random.Random(seed)  # noqa: S311 - to be repeatable
        generation, streams = random_.randint(*GENERATIONS), random_.random() < 0.2
        make = partial(Request, key=text, model=MODEL, generation=generation, streams=streams)
        for request in until_served(lambda: make(next(gateways).port), sizes.patience, random_):
            history.requests.append(request)

    with (
        history.watching(shared.gateways, key.id),
        ThreadPoolExecutor(sizes.at_once) as pool,
    ):
        list(pool.map(client, range(sizes.requests)))
    eventually(partial(is_quiet, shared))
    total = served(shared) - before

    note(
        f"budget {budget}, served {total} ({total / budget:.1%}), {len(history.requests)} asked:"
        f" {history.count(OK)} served, {history.count(LIMITED)} refused,"
        f" {history.count(UNAVAILABLE)} unavailable; {len(history.reads)} reads"
    )
    assert 0.8 * budget <= total <= budget
    history.check(budget)
    assert {gateway.used(key.id)["month"] for gateway in shared.gateways} == {total}
    assert history.answered == total
