"""How reloads run: one at a time, to their end, whatever asks for them and whatever fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock

from ollama_gateway.backends.transport import Transport
from ollama_gateway.reloading import Notifying, Reloading, SettingsSource, watch_settings
from ollama_gateway.server.reload_handlers import ReloadFailed, ReloadReport
from ollama_gateway.settings import Loaded, Settings
from ollama_gateway.storage.batcher import in_place
from tests.support.reloading import changed, reloadable, without


async def test_a_watched_file(autojump_clock: MockClock, tmp_path: Path) -> None:
    """Each change of a watched file reloads within two seconds, also one that cannot be used."""
    file = tmp_path / "gateway.toml"
    async with reloadable() as gateway, trio.open_nursery() as nursery:
        notifying = Notifying(gateway.reloading)
        nursery.start_soon(watch_settings, file, notifying, in_place)
        await trio.sleep(10)
        good = gateway.settings
        for settings, names in (
            (without("a")(good), ["b"]),
            (attrs.evolve(good, server=attrs.evolve(good.server, processes=2)), ["b"]),
            (good, ["a", "b"]),
        ):
            gateway.settings = settings
            file.write_text(str(trio.current_time()))
            await trio.sleep(2.5)
            backends = gateway.scenario.gateway.backends.all
            assert [backend.name for backend in backends] == names
        nursery.cancel_scope.cancel()


async def test_a_reload_whose_asker_leaves(autojump_clock: MockClock) -> None:
    """Once a reload has begun to change something, a cancellation leaves no part of it undone."""
    async with reloadable() as gateway:
        seen: list[Settings] = []
        source = attrs.evolve(gateway.reloading.source, on_change=seen.append)
        reloading = Reloading(gateway.scenario.gateway, source, runner=in_place)
        in_use = gateway.scenario.gateway.backends.all[0]
        in_use.transport = SlowToClose(in_use.transport._connect)
        gateway.settings = changed("a", verify=False)(gateway.settings)
        with trio.move_on_after(1) as asker:
            await reloading.reload()

        assert asker.cancelled_caught is False
        assert trio.current_time() >= 2
        assert seen == [gateway.settings]


class SlowToClose(Transport):
    """A transport whose idle connections take two seconds to close."""

    async def aclose(self) -> None:
        """Wait, then close them."""
        await trio.sleep(2)
        await super().aclose()


@attrs.define
class Slow:
    """A reloader that takes a second for each reload."""

    running: int = 0
    most: int = 0

    async def reload(self) -> ReloadReport:
        """Count those that run."""
        self.running += 1
        self.most = max(self.most, self.running)
        await trio.sleep(1)
        self.running -= 1
        return ReloadReport([])

    async def difference(self) -> list[dict[str, Any]]:
        """Find none."""
        return []

    def in_force(self) -> dict[str, Any]:
        """Know none."""
        return {}


async def test_reloads_come_one_after_another(autojump_clock: MockClock) -> None:
    """A service manager never hears of the end of one reload while it waits for another."""
    slow = Slow()
    notifying = Notifying(slow)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(notifying.reload_for_signal)

    assert (slow.most, trio.current_time()) == (1, 3)


async def test_a_draining_gateway_does_not_reload(autojump_clock: MockClock) -> None:
    """A reload that comes during a drain, or waits until there is one, is refused."""
    is_draining = False
    notifying = Notifying(Slow(), lambda: is_draining)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(notifying.reload_for_signal)
        await trio.sleep(0.5)
        is_draining = True
        with pytest.raises(ReloadFailed, match="draining"):
            await notifying.reload()

    assert trio.current_time() == 1


async def test_a_fault_of_a_reload_ends_nothing(autojump_clock: MockClock) -> None:
    """Whatever fails while settings are read or prepared, a signal's reload ends in the log."""

    def read() -> Loaded:
        raise RuntimeError("can't start new thread")

    async with reloadable() as gateway:
        reloading = Reloading(gateway.scenario.gateway, SettingsSource(read), runner=in_place)
        await Notifying(reloading).reload_for_signal()
        page = gateway.scenario.gateway.parts.metrics.page().decode()
        assert "ollama_gateway_config_last_reload_successful 0.0" in page
        assert gateway.reaches() == ["a", "b"]
