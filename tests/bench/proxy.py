"""The cost of the gateway beside other proxies: `python -m tests.bench.proxy`, or `tox -e bench`.

Each scenario puts the same load on the gateway, with all of its work switched on, and on the other
subjects, in turn, and prints the aims with the figures. A missed aim is reported and is no error: a
busy machine misses some. docs/evidence/benchmarks.md explains the measurements and the figures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.bench import aims, picture, remains, scenarios
from tests.bench.aims import Aim
from tests.bench.scenarios import Lab

SCENARIOS: Final[dict[str, Callable[[Lab], Iterator[Aim]]]] = {
    "a": scenarios.whole,
    "b": scenarios.fifty,
    "c": scenarios.burst,
    "c600": scenarios.double_burst,
    "chunks": scenarios.chunks,
    "alone": scenarios.alone,
    "two": scenarios.two,
    "litellm": scenarios.against_litellm,
    "memory": remains.memory,
    "soak": remains.soak,
}
LONG: Final = {"soak"}
"""Run only if they are named."""


def main() -> None:
    """Run the scenarios and print the aims."""
    given = _arguments()
    rounds = given.rounds or (2 if given.quick else 5)
    lab = Lab(rounds, given.clients, given.profile, given.quick, given.backends)
    if given.picture:
        Path(given.picture).write_text(picture.draw(picture.sweep(lab)))
    found = list(_measured(lab, given.only or [n for n in SCENARIOS if n not in LONG]))
    if given.json:
        sys.stdout.write(aims.as_json(found, lab.rows) + "\n")
    elif given.markdown:
        sys.stdout.write(aims.markdown(found, lab.rows))
    else:
        sys.stdout.writelines(f"{aim}\n" for aim in found)


def _measured(lab: Lab, names: list[str]) -> Iterator[Aim]:
    for name in names:
        sys.stderr.write(f"{name} ")
        for aim in SCENARIOS[name](lab):
            sys.stderr.write(f"{aim}\n")
            yield aim


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.proxy",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--only", action="append", choices=SCENARIOS, help="scenarios; all but soak by default")
    add("--rounds", type=int, help="of alternation, 5 by default")
    add("--quick", action="store_true", help="2 rounds, a tenth of the requests")
    add("--clients", type=int, default=1, help="client processes")
    add("--backends", type=int, default=1, help="of the gateway: with several, streams are raced")
    add("--json", action="store_true", help="all figures, instead of a line an aim")
    add("--markdown", action="store_true", help="tables, instead of a line an aim")
    add("--picture", metavar="FILE", help="draw 1 to 600 streams as SVG, too")
    add("--profile", metavar="FILE", default="", help="of the gateway: .pstats, .svg or raw")
    return parser.parse_args()


if __name__ == "__main__":
    main()
