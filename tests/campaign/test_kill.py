"""A gateway that is killed: its places are freed, and its charges stay."""

from __future__ import annotations

import signal
import time
import urllib.request
from functools import partial
from pathlib import Path

import redis

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.limits.contributions import read_charges
from ollama_gateway.limits.quota import LEASE_SECONDS
from ollama_gateway.limits.redis.operations import ReadUsage, account
from ollama_gateway.limits.redis.scripts import RedisScripts
from ollama_gateway.limits.usage_file import read_file
from ollama_gateway.wire.counting import BYTES_PER_TOKEN
from tests.campaign.audit_log import records_in
from tests.campaign.client import LIMITED, OK, Request, eventually, sent
from tests.campaign.conftest import Note
from tests.campaign.sizes import Sizes
from tests.smoke.fleet import Fleet, Gateway, fleet
from tests.support.redis_server import redis_server

STREAMS = {"streams": ("--model", "stream:1", "--tokens", "1000", "--token-delay", "500ms")}
PLENTY = 10**9


def renewed(url: str, key_id: str) -> int:
    """Return the tokens used by a key's open requests, by the last renewal."""
    _, _, held, *_ = account(key_id)
    with redis.Redis.from_url(url, decode_responses=True) as client:
        entries: list[str] = client.hvals(held)
    return sum(int(entry.split()[3]) for entry in entries)


def noted(directory: Path) -> int:
    """Return the same from the usage journals, which are written a little later."""
    return sum(map(sum, read_charges(directory).values()))


def counted(requests: list[Request]) -> int:
    """Return the tokens that can be counted in the answers that the clients got."""
    return sum(
        len(request.body) // BYTES_PER_TOKEN
        + max(request.chunks, -(-request.text // BYTES_PER_TOKEN))
        for request in requests
    )


def killed_tokens(directory: Path, count: int) -> int:
    """Return the tokens of the audit records of so many requests that ended with their process."""
    records = [record for record in records_in(directory).values() if record["outcome"] == "killed"]
    assert len(records) == count
    assert {record["tokens_source"] for record in records} == {"counted"}
    return sum(record["prompt_tokens"] + record["completion_tokens"] for record in records)


def killed_requests(gateway: Gateway) -> float:
    """Return the number of such requests in the metrics."""
    address = f"http://127.0.0.1:{gateway.admin_port}/metrics"
    with urllib.request.urlopen(address, timeout=10) as response:
        lines = str(response.read(), "ascii").splitlines()
    counts = [line for line in lines if line.startswith("ollama_gateway_requests_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in counts if 'outcome="killed"' in line)


def end_leases(url: str, key_id: str) -> None:
    """Read the key's use by a clock that is one lease ahead."""
    scripts = RedisScripts(url)
    scripts.offset = LEASE_SECONDS
    assert scripts.run([ReadUsage(key_id)]).outcomes[0].open == 0
    scripts.close()


def test_leases_of_a_killed_gateway_end(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """Killed with streams open: all places free a lease later, tokens as at the last renewal."""
    with (
        redis_server() as url,
        fleet(tmp_path, STREAMS, gateways=2, GATEWAY_REDIS_URL=url) as started,
    ):
        limits = KeyLimits(concurrent_requests=sizes.streams, tokens_per_month=PLENTY)
        key, text = started.create_key("killed", limits)
        first, second = started.gateways
        make = partial(Request, key=text, model="stream:1", streams=True)
        requests = [make(first.port, generation=1000) for _ in range(sizes.streams)]
        with sent(requests):
            eventually(lambda: all(request.chunks > 1 for request in requests))
            started.simulators["streams"].popen.send_signal(signal.SIGSTOP)
            fewest = counted(requests)
            eventually(lambda: renewed(url, key.id) >= fewest)
            eventually(lambda: noted(tmp_path) == renewed(url, key.id))
            first.process.stop(signal.SIGKILL)
            killed_at = time.monotonic()
            started.simulators["streams"].popen.send_signal(signal.SIGCONT)
        last = renewed(url, key.id)
        assert fewest <= last <= counted(requests)
        assert all(request.status == OK and not request.is_whole for request in requests)
        assert second.used(key.id)["concurrency"] == sizes.streams
        assert make(second.port, generation=1).send().status == LIMITED

        if sizes.waits_for_leases:
            eventually(lambda: second.used(key.id)["concurrency"] == 0, patience=LEASE_SECONDS + 5)
            waited = time.monotonic() - killed_at
            note(f"{len(requests)} places free {waited:.2f} s after the kill")
            assert waited <= LEASE_SECONDS + 0.5  # half a second for the last look
        else:
            end_leases(url, key.id)
        note(f"{fewest} tokens before, {last} at the last renewal, {counted(requests)} relayed")
        assert second.used(key.id) == {"concurrency": 0, "month": last}
        started.restart(0, signal.SIGKILL)
        assert killed_tokens(tmp_path, len(requests)) == last
        assert make(second.port, generation=1).send().is_whole


def spend(started: Fleet, text: str) -> int:
    """Return the tokens of some requests that were answered to the end."""
    asked = [Request(started.port, text, "quick:1", generation).send() for generation in (30, 50)]
    return sum(request.tokens for request in asked)


def test_without_redis_budgets_survive(tmp_path: Path, sizes: Sizes, note: Note) -> None:
    """After a stop or a kill, a new gateway knows the tokens spent and the requests left open."""
    simulators = {"quick": ("--model", "quick:1", "--tokens", "50", "--token-delay", "0ms")}
    with fleet(tmp_path, {**STREAMS, **simulators}) as started:
        limits = KeyLimits(concurrent_requests=sizes.streams, tokens_per_month=PLENTY)
        key, text = started.create_key("restarted", limits)
        gateway = started.gateways[0]
        spent = spend(started, text)
        assert gateway.used(key.id) == {"concurrency": 0, "month": spent}
        started.restart(0, signal.SIGTERM)
        assert gateway.used(key.id) == {"concurrency": 0, "month": spent}

        spent += spend(started, text)
        make = partial(Request, gateway.port, text, "stream:1", 1000, streams=True)
        requests = [make() for _ in range(sizes.streams)]
        with sent(requests):
            eventually(lambda: _open_in(tmp_path) == len(requests))
            assert gateway.used(key.id)["month"] == spent + sum(one.bound for one in requests)
            started.restart(0, signal.SIGKILL)
        prompts = sum(request.prompt_bound for request in requests)
        note(f"{spent} tokens spent, {prompts} of {len(requests)} prompts that were open")
        assert gateway.used(key.id) == {"concurrency": 0, "month": spent + prompts}
        assert killed_tokens(tmp_path, len(requests)) == prompts
        assert killed_requests(gateway) == len(requests)


def _open_in(directory: Path) -> int:
    """Return the number of open requests in the gateway's journal."""
    content = read_file(directory / "budgets-0.db")
    return len(content.open) if content else 0
