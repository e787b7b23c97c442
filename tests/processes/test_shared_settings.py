"""Settings of several processes: all change or none does, whatever the processes do meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import attrs
import pytest
import trio

from ollama_gateway.metrics import Metrics
from ollama_gateway.processes.orders import Commit, ControlEnded, Order, Prepare
from ollama_gateway.processes.shared_settings import SharedSettings
from ollama_gateway.processes.shares import share_of
from ollama_gateway.reloading import SettingsSource
from ollama_gateway.server.reload_handlers import ReloadFailed
from ollama_gateway.settings import Loaded, Settings, load
from ollama_gateway.storage.batcher import in_place

pytestmark = pytest.mark.virtual_time

BUSY: Final = 1.0
"""Seconds that a process takes for an order."""
PATIENT: Final = 10.0
"""Seconds after which it counts as hung, as `spawn.ORDER_SECONDS`."""
COUNT: Final = 3


@attrs.define(eq=False)
class Obedient:
    """A process that takes orders, or does not, as the test says."""

    number: int
    settings: Settings
    """In force there."""
    says: str = ""
    """Its answer to `Prepare`."""
    hangs_at: type[Order] | None = None
    dies_at: type[Order] | None = None
    drains: bool = False
    was_killed: bool = False
    prepared: Settings | None = None
    answers_owed: int = 0
    """Orders that it was given whose answer was not awaited."""

    async def order(self, order: Order) -> str | None:
        """Obey after a second, and hang or end where the test says."""
        assert not self.answers_owed, "an earlier order was abandoned"
        if self.drains:
            raise ControlEnded
        self.answers_owed += 1
        if isinstance(order, self.hangs_at or ()):
            await trio.sleep(PATIENT)
            return None
        await trio.sleep(BUSY)
        if self.was_killed or isinstance(order, self.dies_at or ()):
            self.was_killed = True
            raise ControlEnded
        self.answers_owed -= 1
        if isinstance(order, Prepare):
            self.prepared = None if self.says else order.settings
            return self.says
        if self.prepared is not None:
            self.settings = self.prepared
        return ""

    def kill(self) -> None:
        """End it."""
        self.was_killed = True


@attrs.define(eq=False)
class Processes:
    """Processes with shared settings, and the settings that a reload reads."""

    shared: SharedSettings
    read: Settings
    lives: dict[int, ExitStack] = attrs.field(factory=dict)
    """The blocks in which the processes are known, by number."""
    running: list[Obedient] = attrs.field(factory=list)
    told: list[Settings] = attrs.field(factory=list)
    """The settings that the parent itself was told to use."""

    async def start(self, number: int) -> Obedient:
        """Start a process, which serves at once."""
        process = Obedient(number, self.shared.settings)
        self.begin(process)
        await self.shared.serves(number)
        return process

    def begin(self, process: Obedient) -> None:
        """Let a process start with the settings of now, in place of one that has ended."""
        self.running.append(process)
        life = self.lives.setdefault(process.number, ExitStack())
        life.close()
        life.enter_context(self.shared.started(process, self.shared.settings))

    def change(self, **race: Any) -> None:
        """Write other settings."""
        self.read = attrs.evolve(self.read, race=attrs.evolve(self.read.race, **race))

    def in_force(self) -> list[int]:
        """Return `race.max_attempts` of the processes that live, by number."""
        return [one.settings.race.max_attempts for one in self.running if not one.was_killed]


@contextmanager
def processes() -> Iterator[Processes]:
    """Know three processes that serve, with `race.max_attempts` at 3; 4 is to be read."""
    variables = {
        "OLLAMA_BACKENDS": "a=http://a",
        "GATEWAY_SERVER_PROCESSES": str(COUNT),
        "GATEWAY_REDIS_URL": "redis://localhost",
    }
    settings = load(None, variables)
    source = SettingsSource(lambda: Loaded(made.read, None))
    shared = SharedSettings(settings.settings, source, Metrics(), runner=in_place)
    made = Processes(shared, settings.settings)
    shared.on_change = made.told.append
    made.change(max_attempts=4)
    yield made
    for life in made.lives.values():
        life.close()


async def three(made: Processes) -> list[Obedient]:
    """Start the processes."""
    return [await made.start(number) for number in range(COUNT)]


async def test_all_change(autojump_clock: trio.testing.MockClock) -> None:
    """All prepare at once, then all commit; each has its own share, and so does the parent."""
    with processes() as made:
        all_three = await three(made)
        report = await made.shared.reload()

    assert [change["path"] for change in report.changes] == ["race.max_attempts"]
    assert [one.settings for one in all_three] == [share_of(made.read, n) for n in range(COUNT)]
    assert made.told == [made.read]
    assert trio.current_time() == 2 * BUSY
    page = made.shared.metrics.page().decode()
    assert "ollama_gateway_config_last_reload_successful 1.0" in page


async def test_one_that_cannot(autojump_clock: trio.testing.MockClock) -> None:
    """If one process cannot prepare, none changes, and its reason is the error."""
    with processes() as made:
        all_three = await three(made)
        all_three[1].says = "race.max_attempts: not here"
        with pytest.raises(ReloadFailed, match="not here"):
            await made.shared.reload()
        assert made.in_force() == [3, 3, 3]
        assert (made.told, made.shared.settings.race.max_attempts) == ([], 3)
        page = made.shared.metrics.page().decode()
        assert "ollama_gateway_config_last_reload_successful 0.0" in page

        all_three[1].says = ""
        await made.shared.reload()
        assert made.in_force() == [4, 4, 4]


@pytest.mark.parametrize("step", [Prepare, Commit])
async def test_one_that_dies(autojump_clock: trio.testing.MockClock, step: type[Order]) -> None:
    """If a process ends in either step, the others change, and its successor starts changed."""
    with processes() as made:
        all_three = await three(made)
        all_three[0].dies_at = step
        await made.shared.reload()
        assert made.in_force() == [4, 4]
        await made.start(0)

    assert made.in_force() == [4, 4, 4]


async def test_one_that_drains_is_not_killed(autojump_clock: trio.testing.MockClock) -> None:
    """A process that takes no orders any more, since it drains, runs to its own end."""
    with processes() as made:
        all_three = await three(made)
        all_three[2].drains = True
        await made.shared.reload()
        assert not all_three[2].was_killed
        assert made.in_force() == [4, 4, 3]


@pytest.mark.parametrize(("step", "seconds"), [(Prepare, PATIENT + BUSY), (Commit, BUSY + PATIENT)])
async def test_one_that_hangs(
    autojump_clock: trio.testing.MockClock, step: type[Order], seconds: float
) -> None:
    """A process that does not answer is killed after its time, and the others change."""
    with processes() as made:
        all_three = await three(made)
        all_three[1].hangs_at = step
        await made.shared.reload()

    assert [one.was_killed for one in all_three] == [False, True, False]
    assert made.in_force() == [4, 4]
    assert trio.current_time() == seconds


async def test_one_that_starts_meanwhile(autojump_clock: trio.testing.MockClock) -> None:
    """A process that began to start with the old settings gets the new ones before other orders."""
    with processes() as made:
        await made.start(0)
        late = Obedient(1, made.shared.settings)
        made.begin(late)
        await made.shared.reload()
        assert made.in_force() == [4, 3]
        await made.shared.serves(1)
        assert made.in_force() == [4, 4]
        made.change(max_attempts=5)
        await made.shared.reload()

    assert made.in_force() == [5, 5]


@pytest.mark.parametrize("fault", [{"says": "cannot"}, {"hangs_at": Prepare}, {"dies_at": Commit}])
async def test_one_that_cannot_catch_up(
    autojump_clock: trio.testing.MockClock, fault: Mapping[str, Any]
) -> None:
    """A process that started with old settings and cannot use the new ones does not go on."""
    with processes() as made:
        late = Obedient(0, made.shared.settings, **fault)
        made.begin(late)
        await made.shared.reload()
        await made.shared.serves(0)
        assert late.was_killed
        made.change(max_attempts=5)
        await made.shared.reload()

    assert late.settings.race.max_attempts == 3


async def test_two_reloads_at_once(autojump_clock: trio.testing.MockClock) -> None:
    """Two reloads come one after the other; the second finds nothing left to change."""
    with processes() as made:
        await three(made)
        paths: list[list[str]] = []

        async def reload() -> None:
            paths.append([change["path"] for change in (await made.shared.reload()).changes])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reload)
            nursery.start_soon(reload)

    assert sorted(paths) == [[], ["race.max_attempts"]]
    assert made.in_force() == [4, 4, 4]


@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5])
async def test_a_cancelled_reload(autojump_clock: trio.testing.MockClock, seconds: float) -> None:
    """A reload whose asker leaves between the orders is completed, and the next one works."""
    with processes() as made:
        await three(made)
        with trio.move_on_after(seconds):
            await made.shared.reload()
        assert made.in_force() == [4, 4, 4]
        assert made.told == [made.shared.settings] == [made.read]
        made.change(max_attempts=5)
        await made.shared.reload()

    assert made.in_force() == [5, 5, 5]


@pytest.mark.parametrize("fault", [OSError("no such directory"), RuntimeError("no thread")])
async def test_a_reload_that_cannot_even_read(
    autojump_clock: trio.testing.MockClock, fault: Exception
) -> None:
    """Any fault while the settings are read is a reload that failed, and ends nothing."""

    def read() -> Loaded:
        raise fault

    with processes() as made:
        await three(made)
        made.shared.source = SettingsSource(read)
        with pytest.raises(ReloadFailed, match="the log has the details"):
            await made.shared.reload()
        with pytest.raises(ReloadFailed, match="the log has the details"):
            await made.shared.difference()

    assert made.in_force() == [3, 3, 3]
