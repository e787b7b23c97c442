"""Reloads of real processes, under streams: by command, by signal, and with several processes."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.smoke.asking import rest_of
from tests.smoke.fleet import TWO, addresses, ctl
from tests.smoke.processes import all_serve, figures, is_alive, members
from tests.smoke.rewriting import reloadable
from tests.smoke.test_drain import begun_chat
from tests.support.patience import PATIENCE, wait_until
from tests.support.redis_server import redis_server


def test_a_reload_by_command(tmp_path: Path) -> None:
    """A stream goes on while its backend is replaced, and the command prints what has changed."""
    with reloadable(tmp_path) as gateway, begun_chat(gateway.fleet) as chat:
        gateway.write("b")
        assert gateway.reload() == ["backends[a]", "backends[b]"]
        assert gateway.backends() == ["b"]
        assert rest_of(chat).endswith(b"0\r\n\r\n")
        assert gateway.reload() == []


def test_wrong_settings_change_nothing(tmp_path: Path) -> None:
    """The command exits with 1, names the settings and says that nothing has changed."""
    with reloadable(tmp_path) as gateway:
        for more, problem in {
            '[race]\nhedge_after = "soon"\n': "race.hedge_after: ",
            '[race]\nhedge = "1s"\n': "race.hedge: ",
            "[race\n": "gateway.toml: ",
            '[audit]\nkeep = "1d"\n': "audit.keep: needs a restart",
        }.items():
            gateway.write("b", more=more)
            ended = gateway.fleet.ctl("reload")
            assert (ended.returncode, ended.stdout) == (1, "")
            assert problem in ended.stderr
            assert ended.stderr.endswith("nothing has changed\n")
        assert gateway.backends() == ["a"]


def test_a_reload_by_signal(tmp_path: Path) -> None:
    """SIGHUP reloads, and the log says what has changed."""
    with reloadable(tmp_path) as gateway:
        gateway.write("b", "a")
        gateway.fleet.gateway.popen.send_signal(signal.SIGHUP)
        line = json.loads(gateway.fleet.gateway.wait_for('"reloaded"'))
        assert line["changes"] == ["backends[a].priority", "backends[b]"]
        gateway.write("b", more="[race\n")
        gateway.fleet.gateway.popen.send_signal(signal.SIGHUP)
        gateway.fleet.gateway.wait_for("reload failed")
        assert gateway.backends() == ["b", "a"]


def test_no_gateway_to_reload(tmp_path: Path) -> None:
    """Without a gateway the command exits with 1 and asks whether it runs."""
    ended = ctl("reload", environment={**addresses(), "GATEWAY_STORAGE_DATA_DIR": str(tmp_path)})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.endswith(": is it running?\n")


def test_all_processes_change_or_none(tmp_path: Path) -> None:
    """Several processes change together; one that was killed starts with the new settings."""
    with redis_server() as url:
        settings = {"GATEWAY_REDIS_URL": url, "GATEWAY_SERVER_PROCESSES": "2"}
        with reloadable(tmp_path, TWO, **settings) as gateway, begun_chat(gateway.fleet) as chat:
            gateway.write("b", "a")
            assert gateway.reload() == ["backends[a].priority", "backends[b]"]
            assert gateway.of_each() == [["b", "a"]] * 2
            assert rest_of(chat).endswith(b"0\r\n\r\n")
            gateway.write("b", more='[audit]\nkeep = "1d"\n')
            assert gateway.fleet.ctl("reload").returncode == 1
            assert gateway.of_each() == [["b", "a"]] * 2

            gateway.write("b")
            victim = members(gateway.gateway)[0]["pid"]
            os.kill(victim, signal.SIGKILL)
            assert gateway.reload() == ["backends[a]"]
            wait_until(lambda: not is_alive(victim) and all_serve(gateway.gateway))
            assert gateway.of_each() == [["b"]] * 2


def test_no_reload_ends_a_drain(tmp_path: Path) -> None:
    """Processes that drain are not killed for obeying no orders: their streams run to the end."""
    with redis_server() as url:
        settings = {"GATEWAY_REDIS_URL": url, "GATEWAY_SERVER_PROCESSES": "2"}
        with reloadable(tmp_path, TWO, **settings) as gateway, begun_chat(gateway.fleet) as chat:
            held = gateway.fleet.simulators["a"].popen
            held.send_signal(signal.SIGSTOP)
            gateway.write("b")
            gateway.fleet.gateway.popen.send_signal(signal.SIGTERM)
            gateway.fleet.gateway.wait_for('"draining"')
            gateway.fleet.gateway.popen.send_signal(signal.SIGHUP)
            refusal = gateway.fleet.gateway.wait_for("reload failed")
            held.send_signal(signal.SIGCONT)
            assert rest_of(chat).endswith(b"0\r\n\r\n")
            assert gateway.fleet.gateway.popen.wait(PATIENCE) == 0
    assert json.loads(refusal)["problems"] == ["the gateway is draining"]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_another_token(tmp_path: Path, processes: str) -> None:
    """The local token changes that of the settings; without it, the old one does. It holds at once
    for all processes."""
    with redis_server() as url:
        settings = {"GATEWAY_REDIS_URL": url, "GATEWAY_SERVER_PROCESSES": processes}
        token = '[server]\nadmin_token = "the-second-token"\n'
        with reloadable(tmp_path, TWO, **settings) as gateway:
            gateway.write("a", more=token.replace("second", "first"))
            assert gateway.reload() == ["server.admin_token"]
            gateway.write("a", more=token)
            elsewhere = {"GATEWAY_STORAGE_DATA_DIR": str(tmp_path / "elsewhere")}
            ended = ctl("reload", environment={**gateway.fleet.environment, **elsewhere})
            assert (ended.returncode, ended.stdout) == (1, "")
            assert "the gateway accepts no admin token of this command" in ended.stderr
            old = {"GATEWAY_SERVER_ADMIN_TOKEN": "the-first-token"}
            ended = ctl("reload", environment={**gateway.fleet.environment, **elsewhere, **old})
            assert ended.returncode == 0
            assert "the-" not in ended.stdout + ended.stderr
            assert gateway.fleet.ctl("reload").returncode == 0
            listed = gateway.fleet.ctl_json("backends", "list")
            assert [backend["name"] for backend in listed] == ["a"]


def test_what_is_not_in_force(tmp_path: Path) -> None:
    """`config show --json` has the value in force of each setting that differs."""
    with reloadable(tmp_path) as gateway:
        gateway.write("b", "a", more='[race]\nhedge_after = "3s"\n')
        shown = gateway.fleet.ctl_json("config", "show")["settings"]
        marked = {path: one["in_force"] for path, one in shown.items() if "in_force" in one}
        assert marked.pop("race.hedge_after") == "2s"
        assert marked.pop("backends[1].priority") == 1
        assert set(marked) == {path for path in shown if path.startswith("backends[0].")}
        assert set(marked.values()) == {None}


def test_figures_of_a_removed_backend(tmp_path: Path) -> None:
    """A backend that a reload removes leaves the gauges of the metrics page."""
    with reloadable(tmp_path) as gateway:
        before = figures(gateway.gateway)
        gateway.write("b")
        gateway.reload()
        after = figures(gateway.gateway)
    for gauge in ("up", "in_flight"):
        named = f'ollama_gateway_backend_{gauge}{{backend="a"}}'
        assert named in before
        assert named not in after
        assert named.replace('"a"', '"b"') in after


@pytest.mark.parametrize("header", ["Origin: https://example.com", "Sec-Fetch-Site: cross-site"])
def test_a_web_page_cannot_reload(tmp_path: Path, header: str) -> None:
    """A POST that a browser sends for a page is refused, also without a token."""
    with reloadable(tmp_path) as gateway:
        gateway.write("b")
        port = gateway.gateway.admin_port
        name, _, value = header.partition(": ")
        connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        with closing(connection):
            connection.request("POST", "/reload", headers={name: value})
            assert connection.getresponse().status == 403
        assert gateway.backends() == ["a"]
