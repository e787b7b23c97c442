"""Start, use, reload, kill and stop the gateway's unit under systemd; print the findings as JSON.

The unit is a container of Quadlet (`published`, `socket`) or the plain service (`plain`). The
script uses only the standard library, since it runs in a container with systemd.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNIT = "ollama-gateway.service"
PATIENCE = 60.0
KIND = sys.argv[1]
SETTINGS = Path("/etc/ollama-gateway/gateway.toml")
INSIDE = ("podman", "exec", "gateway", "gatewayctl")
BESIDE = (
    *("systemd-run", "--pipe", "--wait", "--quiet", "--collect", "--property=User=ollama-gateway"),
    *("--property=RootDirectory=/srv/gateway", "--property=MountAPIVFS=yes"),
    "--property=BindPaths=/etc/ollama-gateway /var/lib/ollama-gateway",
    "/opt/ollama-gateway/bin/gatewayctl",
)
CTL = BESIDE if KIND == "plain" else INSIDE
"""How the gateway's commands are run."""
seen: dict[str, Any] = {}


def run(*command: str) -> str:
    """Run a command and return its output; a failure ends the scenario."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr or done.stdout}\n{journal()}")
    return done.stdout.strip()


def journal() -> str:
    """Return the last log lines of the units."""
    command = ("journalctl", "--no-pager", "--output", "cat", "--lines", "60")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}\n{journal()}")
        time.sleep(0.1)


def is_healthy() -> bool:
    """Return whether the timer's health check was good."""
    form = "{{.State.Health.Status}}"
    command = ("podman", "inspect", "gateway", "--format", form)
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() == "healthy"


def is_ready() -> bool:
    """Return whether the gateway is ready."""
    command = (*CTL, "health", "--ready")
    return not subprocess.run(command, capture_output=True, check=False).returncode


def of_unit(name: str) -> str:
    """Return a property of the unit."""
    return run("systemctl", "show", UNIT, "--property", name, "--value")


def asked(key: str) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """Start a chat and return its response."""
    connection = http.client.HTTPConnection("127.0.0.1", 11435, timeout=PATIENCE)
    body = json.dumps({"model": "shared:1", "messages": [{"role": "user", "content": "hi"}]})
    connection.request("POST", "/api/chat", body, {"authorization": f"Bearer {key}"})
    response = connection.getresponse()
    response.readline()
    return connection, response


def ended(response: http.client.HTTPResponse) -> bool:
    """Return whether the rest of a stream comes, to its end."""
    return bool(json.loads(response.read().splitlines()[-1]).get("done"))


def start() -> str:
    """Start everything and return a key."""
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "ollama.service", UNIT)
    if KIND != "plain":
        wait_until(is_healthy, "not healthy")
    wait_until(is_ready, "not ready")
    seen["healthy"] = True
    seen["settings"] = run(*CTL, "config", "show", "--json")
    return run(*CTL, "keys", "create", "app").splitlines()[0]


def chat(key: str) -> None:
    """Run a whole chat."""
    _, response = asked(key)
    seen["chat"] = [response.status, ended(response)]


def pending() -> list[str]:
    """Return the settings whose values in the file are not in force."""
    return [change["path"] for change in json.loads(run(*CTL, "config", "diff", "--json"))]


def reload(key: str) -> None:
    """Reload in the middle of a stream, with a second backend, and then with a fault."""
    text, process = SETTINGS.read_text(), of_unit("MainPID")
    _, response = asked(key)
    SETTINGS.write_text(text + '\n[[backends]]\nname = "second"\nurl = "http://127.0.0.1:9"\n')
    seen["pending"] = [pending()]
    began = time.monotonic()
    run("systemctl", "reload", UNIT)
    seen["reload took"] = time.monotonic() - began
    seen["pending"] += [pending()]
    seen["stream at the reload"] = ended(response)
    SETTINGS.write_text(text + "\n[race\n")
    wrong = subprocess.run(["systemctl", "reload", UNIT], capture_output=True, check=False)
    seen["a wrong reload exits with"] = wrong.returncode
    SETTINGS.write_text(text)
    seen["after a wrong reload"] = of_unit("ActiveState")
    seen["pending"] += [pending()]
    run("systemctl", "reload", UNIT)
    seen["pending"] += [pending()]
    seen["process stays"] = process == of_unit("MainPID") != "0"


def kill(key: str) -> None:
    """Kill the gateway and wait until systemd has started it again, on the same data."""
    if KIND == "plain":
        run("systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT)
    else:
        run("podman", "kill", "--signal", "KILL", "gateway")
    wait_until(lambda: of_unit("NRestarts") == "1" and is_ready(), "not started again")
    _, response = asked(key)
    seen["after kill"] = [response.status, ended(response)]


def upgrade(key: str) -> None:
    """Restart in the middle of a stream; clients that connect meanwhile wait and are served."""
    _, old = asked(key)
    restarting = threading.Thread(target=run, args=("systemctl", "restart", UNIT))
    restarting.start()
    wait_until(lambda: '"draining"' in journal(), "no drain")
    began = time.monotonic()
    new: list[tuple[int, bool, float]] = []

    def come() -> None:
        _, response = asked(key)
        new.append((response.status, ended(response), time.monotonic() - began))

    clients = [threading.Thread(target=come) for _ in range(5)]
    for client in clients:
        client.start()
    seen["old stream"] = ended(old)
    for client in clients:
        client.join()
    restarting.join()
    seen["new clients"] = [list(one[:2]) for one in new]
    seen["waited"] = max(one[2] for one in new)


def stop(key: str) -> None:
    """Stop in the middle of a stream."""
    _, response = asked(key)
    began = time.monotonic()
    stopping = threading.Thread(target=run, args=("systemctl", "stop", UNIT))
    stopping.start()
    seen["stream at the stop"] = ended(response)
    stopping.join()
    seen["stop took"] = time.monotonic() - began
    seen["result"] = of_unit("Result")
    seen["state"] = of_unit("ActiveState")
    seen["stopped"] = '"stopped"' in journal()


def main() -> None:
    """Run the steps that the arguments select."""
    seen["systemd"] = run("systemctl", "--version").split()[1]
    key = start()
    chat(key)
    reload(key)
    kill(key)
    if KIND == "socket":
        upgrade(key)
    stop(key)
    print(json.dumps(seen))  # noqa: T201 - the output for the test


main()
