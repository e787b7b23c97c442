"""`gatewayctl` beside a running gateway, as processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.smoke.asking import ask
from tests.smoke.fleet import (
    PATIENCE,
    Fleet,
    alone,
    clean_environment,
    ctl,
    fleet,
    running,
)
from tests.support.patience import wait_until
from tests.support.redis_server import redis_server


def test_probe_and_models(own_fleet: Fleet) -> None:
    """`probe` exits with 1 and names the backend that is down; `models` lists and counts models."""
    assert own_fleet.ctl("probe").returncode == 0
    found = own_fleet.ctl_json("models")
    assert found["backends"] == {"a": ["shared:1", "only-a:1"], "b": ["shared:1", "only-b:1"]}
    assert sorted(found["union"]) == ["only-a:1", "only-b:1", "shared:1"]
    assert found["cache"]["size"] is None
    assert {*found["sizes"]["a"]} == {"shared:1", "only-a:1"}
    assert all(size > 0 for size in found["sizes"]["b"].values())

    own_fleet.simulators["a"].popen.kill()
    own_fleet.simulators["a"].popen.wait()
    probed = own_fleet.ctl("probe", "--json")

    assert probed.returncode == 1
    by_name = {report["name"]: report for report in json.loads(probed.stdout)}
    assert (by_name["a"]["ok"], by_name["a"]["error"]) == (False, "cannot connect: refused")
    assert (by_name["b"]["ok"], by_name["b"]["version"]) == (True, "0.33.0")
    assert "cannot connect" in own_fleet.ctl("probe").stdout


def test_models_come_from_redis_where_there_is_one(tmp_path: Path) -> None:
    """`models` reads the catalog that a gateway publishes, even if the backends are down."""
    with redis_server() as url, fleet(tmp_path, GATEWAY_REDIS_URL=url) as started:
        wait_until(lambda: started.ctl_json("models")["cache"]["source"] == "redis")
        found = started.ctl_json("models")
        for simulator in started.simulators.values():
            simulator.popen.kill()
            simulator.popen.wait()
        again = started.ctl_json("models")

    assert found["cache"]["size"] == len(found["union"]) == 3
    assert (again["backends"], again["union"]) == (found["backends"], found["union"])


def test_keys_take_effect_in_a_running_gateway(shared_fleet: Fleet) -> None:
    """A new key works at once; a revoked one stops working within seconds."""
    made = shared_fleet.ctl_json("keys", "create", "later")
    assert ask(shared_fleet.port, "/api/tags", made["key"]).status == 200

    assert shared_fleet.ctl("keys", "revoke", made["id"]).returncode == 0
    wait_until(lambda: ask(shared_fleet.port, "/api/tags", made["key"]).status != 200)
    assert ask(shared_fleet.port, "/api/tags", made["key"]).status == 401


def test_health(shared_fleet: Fleet) -> None:
    """`health` exits with 0 while the process is alive, `--ready` while it is ready."""
    assert shared_fleet.ctl("health", "--ready").stdout.strip() == "ready"


def test_a_taken_port_is_one_line_and_exit_1(shared_fleet: Fleet) -> None:
    """A second gateway on the same address prints one line and exits with 1."""
    second = shared_fleet.ctl("serve")

    assert second.returncode == 1
    error = json.loads(second.stderr.splitlines()[-1])
    assert error["reason"].startswith("cannot listen on 127.0.0.1")
    assert "Traceback" not in second.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "stdout", "stderr"),
    [
        (("health",), 1, "not running: nothing answers on 127.0.0.1", ()),
        (("explain", "m"), 1, "", ("no gateway answers on 127.0.0.1",)),
        (("serve", "--config", "wrong.toml"), 2, "", ("server.bindd", "race.idle_timeout")),
    ],
)
def test_without_a_gateway_or_good_settings(
    tmp_path: Path, arguments: tuple[str, ...], code: int, stdout: str, stderr: tuple[str, ...]
) -> None:
    """The exit code and stderr say why a command fails, and nothing starts."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text('[server]\nbindd = "x"\n[race]\nidle_timeout = "5 parsecs"\n')
    environment = alone(tmp_path)
    given = [str(wrong) if argument == wrong.name else argument for argument in arguments]
    ended = ctl(*given, environment=environment)

    assert ended.returncode == code
    assert ended.stdout.startswith(stdout)
    assert bool(ended.stdout) == bool(stdout)
    assert all(text in ended.stderr for text in stderr)


def test_serve_without_a_key_says_how_to_make_one(tmp_path: Path) -> None:
    """The first start logs the store and how to create a key; every line is JSON."""
    environment = alone(tmp_path, GATEWAY_NOBODY_KNOWS="this")
    with running("ollama_gateway", "serve", environment=environment) as gateway:
        gateway.wait_for("GATEWAY_NOBODY_KNOWS")
        gateway.wait_for("serving")
        assert gateway.stop() == 0

    assert any("gatewayctl keys create" in line for line in gateway.lines)
    assert all(isinstance(json.loads(line), dict) for line in gateway.lines)
    assert any(str(tmp_path / "keys.db") in line for line in gateway.lines)


def test_the_demo_shows_the_main_jobs() -> None:
    """A hedge wins over a slow machine, a dead one is replaced, a budget holds; at 60 columns."""
    shown = ctl("demo", environment={"COLUMNS": "60"})

    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("gpu-2: ") == 2
    assert "gpu-1 was cancelled" in shown.stdout
    assert "gpu-1 failed: connection_broken" in shown.stdout
    assert "chat 5  429" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 60


def test_the_demo_stays_until_a_signal() -> None:
    """With `--stay`, gateway and key work until Ctrl-C, which is exit code 0."""
    command = [sys.executable, "-m", "ollama_gateway", "demo", "--stay"]
    with subprocess.Popen(
        command, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as demo:
        try:
            assert demo.stdout is not None
            url = next(line for line in demo.stdout if line.startswith("OLLAMA_HOST=")).split()[0]
            listing = url.removeprefix("OLLAMA_HOST=") + "/api/tags"
            with urllib.request.urlopen(listing, timeout=PATIENCE) as answer:  # noqa: S310 - ours
                models = json.load(answer)["models"]
            demo.send_signal(signal.SIGINT)
            _, errors = demo.communicate(timeout=PATIENCE)
        finally:
            demo.kill()  # or a failure would wait for its end

    assert (len(models), demo.returncode, errors) == (4, 0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(own_fleet: Fleet, number: signal.Signals) -> None:
    """SIGTERM ends an idle gateway with exit code 0."""
    assert own_fleet.gateway.stop(number) == 0
