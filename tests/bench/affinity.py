"""Show that conversations find their machines again: `python -m tests.bench.affinity [NAME...]`.

Each case runs in virtual time on simulated machines with prefix caches, once for each way to choose
a machine, and prints a row of a table. No figure depends on the speed of this computer.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from functools import partial
from typing import Final

import attrs
import trio
from trio.testing import MockClock

from ollama_gateway import log_output
from tests.support.conversations import Choose, Machines, Mode, Outcome, Talks, measure

ALL: Final[tuple[Mode, ...]] = ("oracle", "without", "affinity")
MACHINES: Final = Machines()
MAIN: Final = Talks()
COLUMNS: Final = ("case", "mode", "cached", "first chunk p50", "p99", "busiest", "turns", "failed")
RESTART: Final = 200.0
"""Seconds after which all requests go to a new gateway."""
KILLED: Final = 200.0


def at_random(chance: random.Random, _now: float) -> int:
    """Choose one of four gateways for each request."""
    return chance.randrange(4)


def one_of_two(chance: random.Random, _now: float) -> int:
    """Choose one of two gateways for each request."""
    return chance.randrange(2)


def the_newest(_chance: random.Random, now: float) -> int:
    """Choose the first gateway until it is restarted, and the second one then."""
    return int(now >= RESTART)


@attrs.frozen
class Case:
    """One row for each mode."""

    title: str
    machines: Machines = MACHINES
    talks: tuple[Talks, ...] = (MAIN,)
    shown: str = ""
    """Whose first chunks are shown, if not all."""
    gateways: int = 1
    choose: Choose = lambda _chance, _now: 0
    kill_at: float = float("inf")
    modes: tuple[Mode, ...] = ALL

    def run(self, mode: Mode, seed: int) -> Outcome:
        """Run it in one mode."""
        start = partial(
            measure,
            mode,
            self.machines,
            *self.talks,
            seed=seed,
            gateways=self.gateways,
            choose=self.choose,
            kill_at=self.kill_at,
        )
        return trio.run(start, clock=MockClock(autojump_threshold=0))


HOT: Final = Talks(number=1, turns=100, first=60_000, growth=200, think=0, prefix="hot")
COLD: Final = attrs.evolve(MAIN, number=12, turns=8, think=40.0)
MANY: Final = Talks(number=200, turns=6, think=250.0)
CASES: Final = {
    "main": Case("24 conversations, room for 16 on each machine"),
    "slots": Case("the same, `slots = 1`", Machines(slots=1)),
    "tight": Case("room for 8", Machines(conversations=8)),
    "untold": Case("machines that tell neither counts nor durations", Machines(tells=False)),
    "processes": Case("four processes", gateways=4, choose=at_random),
    "two": Case("two gateways that share nothing", gateways=2, choose=one_of_two),
    "restart": Case("a restart in mid-run", gateways=2, choose=the_newest),
    "killed": Case("one machine killed in mid-run", kill_at=KILLED, modes=("without", "affinity")),
    "hot": Case("12 beside one with 90 % of the tokens", talks=(COLD, HOT), shown="t"),
    "many": Case("200 conversations, room for 24", Machines(conversations=8), (MANY,)),
    "quiet": Case("a quiet fleet", talks=(attrs.evolve(MAIN, number=9, turns=4, think=120.0),)),
}


def rows(case: Case, seed: int) -> Iterator[str]:
    """Yield the rows of one case."""
    for mode in case.modes:
        found = case.run(mode, seed)
        kinds = found.kinds if mode == "affinity" else {}
        cells = [
            case.title,
            mode,
            f"{found.cached_share:.1%}",
            f"{found.p50(case.shown):.2f} s",
            f"{found.p99(case.shown):.1f} s",
            f"{found.busiest:.2f}",
            ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "-",
            str(found.failed),
        ]
        yield f"| {' | '.join(cells)} |"


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Show where conversations go.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CASES))
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    log_output.configure("error", "text")
    say(f"| {' | '.join(COLUMNS)} |")
    say("|---" * len(COLUMNS) + "|")
    for name in given.names or CASES:
        for row in rows(CASES[name], given.seed):
            say(row)


if __name__ == "__main__":
    main()
