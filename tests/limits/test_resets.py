"""A reset takes usage off budgets for good: across restarts, and however often Redis is lost."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio
import attrs
import pytest

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.calendar import month_of
from ollama_gateway.limits.contributions import read_contributions
from ollama_gateway.limits.leases import Limiter
from ollama_gateway.limits.opening import open_limits
from ollama_gateway.limits.quota import Grant, LimitName, Quota, Reservation, ReservationRequest
from ollama_gateway.limits.redis import operations, store
from ollama_gateway.limits.usage_file import SpendingError, UsageFile
from ollama_gateway.metrics import Metrics
from ollama_gateway.storage.batcher import in_place
from tests.ledger.audit_logs import changed
from tests.limits.faults import Gateway, begin, by_hand, flush, look, request_for
from tests.limits.spent import MONTH, TODAY
from tests.support.patience import PATIENCE

ALL: Sequence[LimitName] = ("rate", "day", "month")
BUDGET = Quota(requests_per_minute=10**6, tokens_per_day=10**9, tokens_per_month=10**9)
KEY = "k"


@attrs.define
class Expected:
    """The use of one key, added up anew from all that happened."""

    ended: list[int] = attrs.field(factory=list)
    """Tokens of requests that have ended, since the last reset of the day."""
    of_month: list[int] = attrs.field(factory=list)
    """The same of the month."""
    open: dict[str, int] = attrs.field(factory=dict)
    """Tokens reserved for open requests."""

    def end(self, name: str, used: int) -> None:
        """A request ends."""
        del self.open[name]
        self.ended.append(used)
        self.of_month.append(used)

    def reset(self, names: Sequence[str]) -> None:
        """What has ended does not count any more."""
        if "day" in names:
            self.ended.clear()
        if "month" in names:
            self.of_month.clear()

    @property
    def use(self) -> tuple[int, int]:
        """Tokens of the day and of the month."""
        reserved = sum(self.open.values())
        return sum(self.ended) + reserved, sum(self.of_month) + reserved


class Clock:
    """A wall clock that stands on a day of the month."""

    def __init__(self) -> None:
        self.day = 28

    def __call__(self) -> datetime:
        """Return the moment."""
        return datetime(2026, 1, self.day, 12, tzinfo=UTC)


@asynccontextmanager
async def limits_in(directory: Path, clock: Clock) -> AsyncIterator[Limiter]:
    """Open limits that are counted in this process."""
    async with open_limits(
        directory, None, Quota(), 100, Metrics(), runner=in_place, now=clock
    ) as limiter:
        yield limiter


async def use_of(limiter: Limiter) -> tuple[int, int]:
    """Return the use of the key."""
    usage = await limiter.store.usage(KEY)
    return usage.day, usage.month


async def begun(limiter: Limiter, name: str, tokens: int) -> Reservation:
    """Admit a request, as the limiter does."""
    asked = ReservationRequest(name, KEY, BUDGET, tokens)
    outcome = await limiter.store.reserve(asked)
    assert isinstance(outcome, Grant)
    limiter.usage_journal.begin(name, KEY, outcome.reservation.day, tokens)
    return outcome.reservation


@pytest.mark.virtual_time
@pytest.mark.parametrize("seed", range(30))
async def test_a_process_counts_as_the_model_does(tmp_path: Path, seed: int) -> None:
    """After any order of requests, resets, new days and restarts the budget is the model's."""
    chance, clock, expected, opened = random.Random(seed), Clock(), Expected(), {}  # noqa: S311
    async with AsyncExitStack() as stack:
        limiter = await stack.enter_async_context(limits_in(tmp_path, clock))
        for step in range(60):
            match chance.choice(("begin", "begin", "end", "end", "reset", "restart", "day")):
                case "begin":
                    name, tokens = f"r{step}", chance.randrange(1, 500)
                    opened[name] = await begun(limiter, name, tokens)
                    expected.open[name] = tokens
                case "end" if opened:
                    name, used = chance.choice(sorted(opened)), chance.randrange(500)
                    limiter.store.settle(opened.pop(name), used)
                    limiter.usage_journal.end(name, used)
                    expected.end(name, used)
                case "reset":
                    names = chance.choice((("day",), ("month",), ("day", "month"), ALL))
                    await limiter.store.forgive(KEY, names, limiter.usage_journal)
                    assert await limiter.usage_journal.forgiven_is_written(PATIENCE)
                    expected.reset(names)
                case "restart":  # requests that still run are charged their prompts
                    await stack.aclose()
                    for name in list(expected.open):
                        expected.end(name, expected.open[name])
                    opened.clear()
                    limiter = await stack.enter_async_context(limits_in(tmp_path, clock))
                case "day" if not opened and clock.day < 31:
                    clock.day += 1
                    expected.ended.clear()
                case _:
                    continue
            assert await use_of(limiter) == expected.use


@pytest.fixture
def opens_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a Redis that was lost admit soon again."""
    monkeypatch.setattr(operations, "OPENING_SECONDS", 0.05)
    monkeypatch.setattr(store, "OPENING_SECONDS", 0.05)


async def settled(gateways: Sequence[Gateway]) -> None:
    """Run heartbeats until all gateways have joined, admit, and have told all ends."""
    with anyio.fail_after(PATIENCE):
        while any(one.quota.why_not or one.quota.settlements_waiting for one in gateways):
            for one in gateways:
                try:
                    await one.beat()
                except Unavailable:
                    one.failures += 1
            await anyio.sleep(0.02)


@pytest.mark.usefixtures("opens_soon")
@pytest.mark.parametrize("seed", range(12))
async def test_gateways_on_a_redis_count_as_the_model_does(redis_url: str, seed: int) -> None:
    """After any order of requests, resets and losses of Redis the budget is the model's."""
    chance, expected = random.Random(seed), Expected()  # noqa: S311
    async with by_hand(redis_url, "a") as one, by_hand(redis_url, "b") as two:
        gateways = (one, two)
        await settled(gateways)
        for step in range(40):
            which = chance.choice(gateways)
            match chance.choice(("begin", "begin", "end", "end", "reset", "lose")):
                case "begin":
                    name, tokens = f"r{step}", chance.randrange(1, 500)
                    await which.reserve(request_for(name, BUDGET, tokens))
                    expected.open[name] = tokens
                case "end" if which.open:
                    name, used = chance.choice(sorted(which.open)), chance.randrange(500)
                    which.settle(name, used)
                    expected.end(name, used)
                    await settled(gateways)
                case "reset":
                    names = chance.choice((("day",), ("month",), ("day", "month"), ALL))
                    await which.quota.forgive(KEY, frozenset(names), which)
                    expected.reset(names)
                case "lose":
                    flush(redis_url)
                    one.quota._pipeline.state = two.quota._pipeline.state = None
                    await settled(gateways)
                case _:
                    continue
            usage = look(redis_url)
            assert (usage.day, usage.month) == expected.use


async def test_a_rate_starts_anew(redis_url: str) -> None:
    """The admissions of the last minute are forgotten, those that run stay."""
    async with by_hand(redis_url) as one:
        await one.reserve(request_for("r1", BUDGET))
        await one.quota.forgive(KEY, {"rate"}, one)
        usage = look(redis_url)
        assert (usage.admissions, usage.open, usage.day) == (0, 1, 100)


async def test_while_redis_is_filled_nothing_is_reset(redis_url: str) -> None:
    """It is unknown then how much there is to take off, so the caller has to try again."""
    async with by_hand(redis_url) as one:
        flush(redis_url)
        with suppress(Unavailable):
            await one.beat()
        with pytest.raises(Unavailable):
            await one.quota.forgive(KEY, ALL, one)
        assert one.forgiven_of(KEY) == Counter()


async def test_a_repeated_reset_takes_nothing_off_twice(redis_url: str) -> None:
    """An answer that was lost comes with the next reset, and a rebuild takes it off once."""
    begin(redis_url)
    async with by_hand(redis_url) as one:
        await one.reserve(request_for("r1", BUDGET))
        one.settle("r1", 70)
        await one.beat()
        lost = Gateway(redis_url)  # its journal never hears of the first reset
        await one.quota.forgive(KEY, ALL, lost)
        assert look(redis_url).day == 0
        await one.reserve(request_for("r2", BUDGET))
        one.settle("r2", 30)
        await one.quota.forgive(KEY, ALL, one)
        assert look(redis_url).day == 0
        assert one.forgiven_of(KEY)["day", int(one.quota._pipeline.redis_time() // 86400)] == 100


def test_a_file_keeps_what_was_forgiven(tmp_path: Path) -> None:
    """Its version tells older programs that they must not count it; old periods are dropped."""
    with closing(UsageFile(tmp_path, MONTH)) as file:
        file.write({(KEY, TODAY): 100}, {})
        assert schema(tmp_path) == 1
        old, this = month_of(TODAY - 90), month_of(TODAY)
        file.write(
            {},
            {},
            forgiven={
                (KEY, ("day", TODAY)): 60,
                (KEY, ("month", this)): 100,
                (KEY, ("day", TODAY - 90)): 5,
                (KEY, ("month", old)): 5,
            },
        )
        assert schema(tmp_path) == 2
    with closing(UsageFile(tmp_path, MONTH)) as file:
        kept = {("day", TODAY): 60, ("month", this): 100}
        assert file.content.forgiven == {(KEY, period): n for period, n in kept.items()}
    [found] = read_contributions(tmp_path, "another")
    assert found.forgiven == {KEY: kept}


def schema(directory: Path) -> int:
    """Return the version of the file."""
    import sqlite3  # noqa: PLC0415

    with closing(sqlite3.connect(directory / "budgets-0.db")) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


@pytest.mark.parametrize("wrong", ["-5", "'x'", "NULL", "9e300"])
def test_an_edited_file_forgives_nothing(tmp_path: Path, wrong: str) -> None:
    """What this program does not write is an error of one line."""
    with closing(UsageFile(tmp_path, MONTH)) as file:
        file.write({}, {}, forgiven={(KEY, ("day", TODAY)): 60})
    changed(tmp_path / "budgets-0.db", f"UPDATE forgiven SET tokens = {wrong}")  # noqa: S608

    with pytest.raises(SpendingError, match="is not as this program writes it"):
        UsageFile(tmp_path, MONTH)
