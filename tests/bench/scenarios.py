"""The scenarios of `python -m tests.bench.proxy`, and the aims of each.

A ratio is taken within a round, in which all subjects had the same load one after the other; the
report has the median of the rounds' ratios. Every scenario starts its subjects anew.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

import attrs

from tests.bench.aims import Aim, Row
from tests.bench.measure import Load, Measurement, alternate, run
from tests.bench.subjects import COMPLETIONS, Subject, gateway, subjects, upstream
from tests.support.redis_server import redis_server

PROXIES: Final = ("plain", "nginx", "gateway")
WARM: Final = Load(20, 10, chunks=3)
Round = dict[str, Measurement]


@attrs.define
class Lab:
    """The way to measure, and the lines so far."""

    rounds: int
    clients: int = 1
    profile: str = ""
    is_quick: bool = False
    backends: int = 1
    """Backends of the gateway; all of them are the upstream."""
    rows: list[Row] = attrs.field(factory=list)

    @contextmanager
    def opened(self, names: Sequence[str]) -> Iterator[dict[str, Subject]]:
        """Start subjects, and send each a few requests."""
        with (
            tempfile.TemporaryDirectory() as directory,
            subjects(Path(directory), names, self.profile, self.backends) as found,
        ):
            for subject in found.values():
                run(subject, found["direct"], WARM)
            yield found

    def rounds_of(self, name: str, found: dict[str, Subject], load: Load) -> list[Round]:
        """Alternate, and add a line for each subject."""
        rounds = []
        for one in alternate(found, load, self.rounds, self.clients):
            rounds.append(one)
            sys.stderr.write(".")
            sys.stderr.flush()
        self.keep(name, rounds)
        return rounds

    def keep(self, name: str, rounds: Sequence[Round]) -> None:
        """Add a line for each subject."""
        for subject in rounds[0]:
            self.rows.append(Row(name, subject, [one[subject] for one in rounds]))
            sys.stderr.write(f"\n{self.rows[-1]}")
        sys.stderr.write("\n")

    def scaled(self, count: int) -> int:
        """Reduce the requests of a quick run."""
        return count // 10 if self.is_quick else count


def ratio(
    rounds: Sequence[Round], of: str, to: str, figure: Callable[[Measurement], float]
) -> float:
    """Return the median of the rounds' ratios of a figure."""
    return statistics.median(figure(one[of]) / figure(one[to]) for one in rounds)


def middle(rounds: Sequence[Round], name: str, figure: Callable[[Measurement], float]) -> float:
    """Return the median of a figure."""
    return statistics.median(figure(one[name]) for one in rounds)


def _per_request(seen: Measurement) -> float:
    return seen.per_request


def _per_chunk(seen: Measurement) -> float:
    return seen.per_chunk


def _first50(seen: Measurement) -> float:
    return seen.first(50)


def _first99(seen: Measurement) -> float:
    return seen.first(99)


def _wall(seen: Measurement) -> float:
    return seen.wall


def _errors(rounds: Sequence[Round]) -> int:
    return sum(one["gateway"].errors for one in rounds)


def whole(lab: Lab) -> Iterator[Aim]:
    """(a): not streamed, 16 at once."""
    with lab.opened(PROXIES) as found:
        rounds = lab.rounds_of("a", found, Load(lab.scaled(2000), 16, streams=False))
    seen = ratio(rounds, "gateway", "plain", _per_request)
    yield Aim("a", "CPU a request, gateway/plain", seen, 0.6, 0.5)
    yield Aim("a", "errors", _errors(rounds), 0)


def fifty(lab: Lab) -> Iterator[Aim]:
    """(b): 50 streams of 100 chunks, one every 20 ms."""
    with lab.opened(PROXIES) as found:
        rounds = lab.rounds_of("b", found, Load(50, 50))
    seen = ratio(rounds, "gateway", "plain", _per_chunk)
    yield Aim("b", "CPU a request and a chunk, gateway/plain", seen, 0.85, 0.6)
    yield Aim("b", "errors", _errors(rounds), 0)


def burst(lab: Lab) -> Iterator[Aim]:
    """(c): 300 streams started at once."""
    with lab.opened(PROXIES) as found:
        rounds = lab.rounds_of("c", found, Load(300, 300))
    for what, figure, bound, hoped in (
        ("CPU", _per_request, 0.65, 0.4),
        ("first chunk p50", _first50, 0.5, 0.15),
        ("first chunk p99", _first99, 0.7, 0.3),
    ):
        seen = ratio(rounds, "gateway", "plain", figure)
        yield Aim("c", f"{what}, gateway/plain", seen, bound, hoped)
    yield Aim("c", "wall, gateway/direct", ratio(rounds, "gateway", "direct", _wall), 1.8, 1.2)
    yield Aim("c", "errors", _errors(rounds), 0)


def double_burst(lab: Lab) -> Iterator[Aim]:
    """(c600): 600 streams started at once."""
    with lab.opened(("gateway",)) as found:
        rounds = lab.rounds_of("c600", found, Load(600, 600))
    yield Aim("c600", "errors", _errors(rounds), 0)
    longest = max(one["gateway"].longest for one in rounds)
    yield Aim("c600", "longest stream, of the median's length", longest, 2)


def chunks(lab: Lab) -> Iterator[Aim]:
    """(chunks): a chunk costs no more with many streams than with few."""
    many, few = Load(300, 300), Load(30, 30)
    with lab.opened(("gateway",)) as found:
        pairs = [
            (next(alternate(found, few, 1)), next(alternate(found, many, 1)))
            for _ in range(lab.rounds)
        ]
    lab.keep("30", [pair[0] for pair in pairs])
    lab.keep("300", [pair[1] for pair in pairs])
    ratios = [_per_chunk(b["gateway"]) / _per_chunk(a["gateway"]) for a, b in pairs]
    yield Aim("chunks", "CPU a chunk, 300 streams/30 streams", statistics.median(ratios), 1)


def alone(lab: Lab) -> Iterator[Aim]:
    """(alone): one stream at a time."""
    with lab.opened(PROXIES) as found:
        rounds = lab.rounds_of("alone", found, Load(lab.scaled(500), 1, chunks=3, pace=1))
    added = [1e3 * (_first50(one["gateway"]) - _first50(one["direct"])) for one in rounds]
    yield Aim("alone", "added to the first chunk, p50", statistics.median(added), 2, 1, " ms")


def two(lab: Lab) -> Iterator[Aim]:
    """(two): two processes on one Redis, in requests a second; on four free cores."""
    what = "requests a second, two processes/one"
    cores = len(os.sched_getaffinity(0)) - os.getloadavg()[0]
    if cores < 3.5:
        why = f"{max(cores, 0):.1f} of 4 cores free"
        yield Aim("two", what, None, 1.8, at_most=False, why_not=why)
        return
    load = Load(lab.scaled(6000), 64, streams=False)
    with tempfile.TemporaryDirectory() as name, redis_server() as url:
        directory = Path(name)
        with (
            upstream(directory) as direct,
            _of_processes(directory, direct.port, url, 1) as one,
            _of_processes(directory, direct.port, url, 2) as other,
        ):
            found = {"direct": direct, "one": one, "two": other}
            for subject in found.values():
                run(subject, direct, WARM)
            rounds = Lab(lab.rounds, 2, rows=lab.rows).rounds_of("two", found, load)
    seen = 1 / ratio(rounds, "two", "one", _wall)
    yield Aim("two", what, seen, 1.8, at_most=False)


def _of_processes(
    directory: Path, port: int, url: str, number: int
) -> AbstractContextManager[Subject]:
    """Start a gateway of so many processes that counts in Redis."""
    return gateway(
        directory,
        port,
        name=("one", "two")[number - 1],
        GATEWAY_REDIS_URL=url,
        GATEWAY_SERVER_PROCESSES=str(number),
    )


def against_litellm(lab: Lab) -> Iterator[Aim]:
    """(litellm): both speak OpenAI's dialect on both sides."""
    with lab.opened(("gateway", "litellm")) as found:
        if "litellm" not in found:
            why = "BENCH_LITELLM is not set"
            yield Aim("litellm", "CPU, LiteLLM/gateway", None, 8, at_most=False, why_not=why)
            return
        for what, load, figure, bound in (
            (
                "a request",
                Load(lab.scaled(500), 16, streams=False, path=COMPLETIONS),
                _per_request,
                8,
            ),
            ("a chunk, 50 streams", Load(50, 50, path=COMPLETIONS), _per_chunk, 4),
            ("a chunk, 300 streams", Load(300, 300, path=COMPLETIONS), _per_chunk, 4),
        ):
            rounds = lab.rounds_of(f"litellm {what}", found, load)
            seen = ratio(rounds, "litellm", "gateway", figure)
            yield Aim("litellm", f"CPU {what}, LiteLLM/gateway", seen, bound, at_most=False)
