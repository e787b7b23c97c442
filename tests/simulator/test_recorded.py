"""The simulator against a recorded real Ollama: every probe is claimed or listed as unclaimed.

The tests compare status, content type, framing, headers, and the body: its keys, their order, and
every value except those that always differ (`recording.MASKS`).
"""

from __future__ import annotations

import functools

import pytest
import trio

from ollama_gateway.simulator import Call, Model, Script, Simulator, memory_server
from tests.simulator.client import Answer, ask
from tests.simulator.recording import CUT, FACTS, Probe, masked, measurements, sections
from tests.simulator.unclaimed import MEASURED, NOT_CLAIMED, reason

PROBES = [probe for probes in sections().values() for probe in probes]
CLAIMED = [probe for probe in PROBES if reason(probe) is None]
WHOLE = [probe for probe in CLAIMED if probe.section != FACTS]
NOTED = [probe for probe in CLAIMED if probe.section == FACTS]
TOOL = Model(
    "tool",
    ("Hi",),
    11,
    ("completion", "tools", "thinking"),
    thinking=("hm", "m"),
    calls=(Call("get_w", {"city": "Oslo"}),),
)
NEWEST = [
    Model("m1", prompt_tokens=11),
    Model("cached", prompt_tokens=11, cached_prompt=4),
    Model("cold", prompt_tokens=11, cached_prompt=0),
    Model("jinja", capabilities=("completion", "tools"), calls=(Call("f"),), is_jinja=True),
    Model("another"),
    Model("one-more"),
]
SCRIPTS = {
    "err0": Script(error_after=0, status=400, error="exceeds context"),
    "errmid": Script(error_after=1),
    "length": Script(length_after=1),
    "nodone": Script(length_after=1, no_done=True),
    "queue full": Script(is_busy=True),
    "embed boom": Script(error_after=0, error="embed failed"),
    "loop": Script(loops=True),
}
"""By the start of a label: the script of the recording's runner."""
HEADERS = {
    "expect": {"Expect": "100-continue"},
    "accept gzip": {"Accept-Encoding": "gzip"},
    "text/plain CT": {"Content-Type": "text/plain"},
    "localhost host": {"Host": "localhost:11434"},
    "x.internal host": {"Host": "x.internal"},
    "private ip host": {"Host": "192.168.1.5:11434"},
    "bad origin": {"Origin": "http://evil.example"},
    "ok origin": {"Origin": "http://localhost:3000"},
    "same origin": {"Origin": "http://sim"},
    "null origin": {"Origin": "null"},
    "ext origin": {"Origin": "chrome-extension://abc"},
    "preflight ok": {"Origin": "http://localhost:3000"},
    "preflight bad": {"Origin": "http://evil.example"},
}
"""By label: the bodies that were not written down."""


def simulator(section: str) -> Simulator:
    """Make the server of a section's recording."""
    prompt = 7 if section == "embeddings" else 11
    m1 = Model("m1", prompt_tokens=prompt, vector_length=3)
    models = {"tools": [m1, TOOL], FACTS: NEWEST}.get(section, [m1])
    far = Model("far", size=30_000_000)
    return Simulator(models, registry=[far], version="0.0.0", wall_clock=lambda: m1.modified_at)


async def send(served: Simulator, probe: Probe) -> Answer:
    """Send a probe on a connection of its own."""
    served.clear_scripts()
    for label, script in SCRIPTS.items():
        if probe.label.startswith(label):
            served.script(script)
    async with memory_server(served) as connect:
        headers = HEADERS.get(probe.label, {})
        return await ask(await connect(), probe.method, probe.path, probe.body, headers)


async def replay(section: str) -> dict[int, Answer]:
    """Send all claimed probes of a section, in order, to one server; return answers by place."""
    served = simulator(section)
    probes = [probe for probe in CLAIMED if probe.section == section]
    return {probe.place: await send(served, probe) for probe in probes}


@functools.cache
def answers(section: str) -> dict[int, Answer]:
    """Replay a section once, for all its tests."""
    return trio.run(replay, section)


@pytest.mark.parametrize("probe", WHOLE, ids=str)
def test_an_answer_is_the_recorded_one(probe: Probe) -> None:
    """A claimed probe gets the answer that the real server gave."""
    answer = answers(probe.section)[probe.place]

    assert answer.is_complete
    assert (answer.status, answer.kind) == (probe.status, probe.told["CT"])
    assert answer.framing == probe.framing
    assert probe.headers.items() <= answer.headers.items()
    compare(answer.body.decode(), probe)


@pytest.mark.parametrize("probe", NOTED, ids=str)
def test_an_answer_is_as_it_was_noted(probe: Probe) -> None:
    """An answer noted in words has the same status, the same text, and the other noted facts."""
    answer = answers(probe.section)[probe.place]

    assert answer.is_complete
    assert answer.status == probe.status
    assert "TE" not in probe.told or answer.framing == probe.framing
    assert probe.is_noted_of(said(answer, is_body=probe.answer.startswith(("{", CUT))))


def said(answer: Answer, *, is_body: bool) -> str:
    """Return the body, or the text of the error in it."""
    if is_body:
        return answer.body.decode()
    error = answer.document["error"]
    return str(error if isinstance(error, str) else error["message"])


def has_counts(probe: Probe) -> bool:
    """Return whether the recording's runner reported the true counts of its tokens."""
    is_other = probe.path == "/v1/embeddings" and probe.section != "embeddings"
    return not (is_other or probe.section == "tools" or probe.label.startswith("length"))


def compare(body: str, probe: Probe) -> None:
    """Compare a body with the recorded one, as far as it was written down."""
    expected, is_cut, _ = probe.answer.partition(CUT)
    if is_cut:
        expected = expected.rpartition(',"')[0]
    seen, expected = (masked(text, has_counts=has_counts(probe)) for text in (body, expected))
    assert (seen[: len(expected)] if is_cut else seen) == expected


def test_every_probe_is_claimed_or_listed() -> None:
    """All recordings are here, and each unclaimed probe is in the table with a reason."""
    assert len(PROBES) + len(measurements()) == 532 + 60
    assert {probe.title for probe in PROBES if reason(probe)} == set(NOT_CLAIMED)
    assert {line for line in measurements() if not line.startswith(tuple(MEASURED))} == set()
    assert all(NOT_CLAIMED.values())


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('{"a":1,"b":2}', '{"b":2,"a":1}'),
        ('{"done":true}', '{"done":"true"}'),
        ('{"created":1}', '{"created":"1"}'),
        ('{"error":"x"}', '{"error":"y"}'),
        ('{"size":7}', '{"size":null}'),
        ('{"digest":"' + "a" * 64 + '"}', '{"digest":"sha256:' + "a" * 64 + '"}'),
        ('{"modified_at":"2026-11-23T05:04:48.172367113Z"}', '{"modified_at":1}'),
        ('{"embedding":[0.6,0.8,0]}', '{"embedding":["0.6","0.8"]}'),
    ],
)
def test_a_mask_hides_no_difference_of_shape(right: str, wrong: str) -> None:
    """Two bodies with masked values still differ in order, type and text."""
    assert masked(right) != masked(wrong)
