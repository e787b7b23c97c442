"""Losers of races on real sockets are closed at once, and nothing of them is left."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import trio

from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.simulator import Model, Script
from tests.campaign.conftest import Note
from tests.campaign.racing import (
    RunningGateway,
    chats_seen,
    in_milliseconds,
    percentile,
    running_gateway,
    simulator,
    wait_until,
)
from tests.campaign.sizes import Sizes
from tests.campaign.visit import PATH, Visit

LANES: Final = 10
"""Races that run at once, each with a model of its own."""
CLOSED_WITHIN: Final = 0.05
HEDGED: Final = {"GATEWAY_RACE_HEDGE_AFTER": "50ms", "GATEWAY_RACE_MAX_HEDGE_RATIO": "1"}
THINKS: Final = 0.02
"""Seconds until the first token of a backend that does not hang."""


async def race_in_turn(running: RunningGateway, model: str, count: int, races: list[Visit]) -> None:
    """Races one after the other, each won by the hedge, since the first backend hangs in chats.

    Three losses in a row to its hedge would open its breaker, so after every second race it gives a
    whole answer, for which there is no race.
    """
    for number in range(count):
        race = running.visit(model, f"{model} {number}")
        races.append(race)
        await race.run()
        if number % 2:
            whole = running.visit(model, "whole", streams=False)
            whole.path = "/api/generate"
            await whole.run()


def is_won_by_hedge(record: AuditRecord) -> bool:
    """Return whether the first backend had no chunk and the hedge beside it had one.

    The order does not count: a process that stalls for 50 ms starts both in the same instant.
    """
    shown = sorted((a.backend, a.is_hedge, a.first_chunk is not None) for a in record.attempts)
    return shown == [("quick", True, True), ("slow", False, False)]


async def test_losers_are_closed_at_once(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """A loser's connection is closed within 50 ms (p99) of the winner's first good chunk.

    Measured from the gateway having that chunk until the loser sees its connection close; both run
    in this loop.
    """
    models = [f"lane-{lane}:1" for lane in range(LANES)]
    slow, quick = (simulator(*(Model(m, first_token=THINKS) for m in models)) for _ in range(2))
    slow.script(Script(hang_after=0), path=PATH, times=None)
    races: list[Visit] = []
    async with running_gateway(tmp_path, {"slow": slow, "quick": quick}, HEDGED) as running:
        async with trio.open_nursery() as lanes:
            for model in models:
                lanes.start_soon(race_in_turn, running, model, sizes.hedged // LANES, races)
        await wait_until(lambda: running.gateway.app.requests_running == 0)
        records, lost = running.records, chats_seen(slow)
        await wait_until(lambda: all(lost[race.prompt].gone_at for race in races))

        assert len(races) == sizes.hedged == running.figure("hedges_total", result="won")
        assert all(race.is_whole for race in races)
        assert all(is_won_by_hedge(records[race.request_id].record) for race in races)
        late = [(lost[r.prompt].gone_at or 0) - records[r.request_id].won_at for r in races]
        note(f"{len(races)} losers closed after the winner's chunk: {in_milliseconds(late)}")
        if sizes.is_timed:
            assert percentile(late, 0.99) <= CLOSED_WITHIN
