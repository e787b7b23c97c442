"""Models made from the same file are warm together, as their descriptions tell."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from ollama_gateway.backends.catalog import Listing
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.weights import MAX_COMPARED, blob_in, unclear_models
from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.wire.names import ModelName
from tests.backends.test_catalog import entry, listing
from tests.flow.racing import M, Track
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
FILE = "f" * 64
BLOB = f"sha256-{FILE}"
SHARED = [Model(f"m{number}:1", weights=FILE) for number in range(3)]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"


def shown(scenario: Scenario) -> list[str]:
    """Return the models whose descriptions were asked for, in order."""
    requests = scenario.simulators["a"].seen
    return [json.loads(r.body)["model"] for r in requests if r.path == "/api/show"]


def warm(scenario: Scenario, models: list[Model]) -> list[str]:
    """Return the models that are warm on the backend."""
    (backend,) = scenario.gateway.backends.all
    return [model.name for model in models if backend.has_warm(ModelName.parse(model.name))]


async def polled(scenario: Scenario, polls: int = 2) -> None:
    """Let the backend's worker poll so many times."""
    (backend,) = scenario.gateway.backends.all
    with trio.move_on_after(polls * 10 - 5):
        await scenario.gateway.parts.discovery.watch(backend)


async def test_models_of_one_file_are_warm_together(autojump_clock: Clock) -> None:
    """Each is asked for once, and those of the loaded file are warm at once."""
    other = Model("other:1")
    async with open_scenario({"a": Simulator([*SHARED, other])}) as scenario:
        scenario.simulators["a"].load("m1:1")
        await polled(scenario, 1)
        once = warm(scenario, [*SHARED, other])
        await polled(scenario, 3)

        assert once == warm(scenario, [*SHARED, other]) == [model.name for model in SHARED]
        assert sorted(shown(scenario)) == ["m0:1", "m1:1", "m2:1", "other:1"]


@pytest.mark.parametrize(
    "models",
    [
        [Model("m1:1", digest="d" * 64), Model("m2:1", digest="d" * 64)],
        [Model("m1:1"), Model("m2:1", parent="m1:1"), Model("m3:1", parent="m2:1")],
        [Model("m1:1"), Model("m2:1", remote="gpt-oss:120b")],
        [Model("m1:1")],
    ],
    ids=["copies", "children", "remote", "alone"],
)
async def test_what_the_lists_tell_is_not_asked(autojump_clock: Clock, models: list[Model]) -> None:
    """Copies, models with a parent, remote ones and a single model need no question."""
    async with open_scenario({"a": Simulator(models)}) as scenario:
        await polled(scenario)

        assert shown(scenario) == []


@pytest.mark.parametrize(
    "script",
    [
        Script(status=500, error="no"),
        Script(hang_after=0),
        Script(raw=HEAD + b"[]"),
        Script(raw=HEAD + b"{bad"),
        Script(raw=HEAD + b'{"modelfile":5}'),
        Script(raw=HEAD + b'{"modelfile":"FROM /x/sha256-../../etc"}'),
        Script(raw=HEAD + b'{"modelfile":"' + b"FROM /x" * 3_000_000 + b'"}'),
    ],
    ids=range(7),
)
async def test_a_bad_description_tells_nothing(autojump_clock: Clock, script: Script) -> None:
    """The backend stays up, no model is warm by it, and none is asked for twice."""
    async with open_scenario({"a": Simulator(SHARED)}) as scenario:
        simulator = scenario.simulators["a"]
        simulator.script(script, path="/api/show", times=None)
        simulator.load("m1:1")
        await polled(scenario, 5)
        (backend,) = scenario.gateway.backends.all

        assert warm(scenario, SHARED) == ["m1:1"]
        assert sorted(shown(scenario)) == ["m0:1", "m1:1", "m2:1"]
        assert backend.failed_polls == 0


async def test_a_backend_that_returns_is_asked_again(autojump_clock: Clock) -> None:
    """Descriptions that a busy backend did not give are asked for after it was down."""
    async with open_scenario({"a": Simulator(SHARED)}) as scenario:
        simulator = scenario.simulators["a"]
        simulator.script(Script(status=503, error="no"), path="/api/show", times=3)
        await polled(scenario, 4)
        simulator.go_down()
        await polled(scenario, 2)
        simulator.come_back()
        simulator.load("m1:1")
        await polled(scenario, 1)

        assert warm(scenario, SHARED) == [model.name for model in SHARED]


async def test_a_model_that_answers_warms_those_of_its_file(autojump_clock: Clock) -> None:
    """An answer counts for all names of its file, before the next poll."""
    async with open_scenario({"a": Simulator(SHARED)}) as scenario:
        await polled(scenario, 1)
        (backend,) = scenario.gateway.backends.all
        backend.has_answered(ModelName.parse("m2:1"))

        assert warm(scenario, SHARED) == [model.name for model in SHARED]


async def test_what_was_learned_stays_when_the_blob_becomes_known(autojump_clock: Clock) -> None:
    """The capacity and the last use of a model go on under its new name; of two, the one in use."""
    track = Track("a")
    backend, other = track.by_name["a"], ModelName.parse("n:1")
    entries = listing(entry("m:1", digest="a" * 64), entry("n:1", digest="b" * 64))
    track.backends.polled(backend, entries, 0)
    backend.replica_of(M).capacity.value = 3
    slot = Slot.take(track.backends, backend, M, 0)
    backend.replica_of(other)
    for digest in ("b" * 64, "a" * 64):
        backend.note_blob(digest, BLOB)

    assert backend.replica_of(M) is backend.replica_of(other) is slot.replica
    assert backend.learned_capacity(M.key) == 3
    assert not backend.may_evict(M, 1)


def test_only_so_many_models_are_compared() -> None:
    """A listing of any length costs a bounded amount of work."""
    entries = [entry(f"m:{number}", digest=f"{number:064x}") for number in range(MAX_COMPARED * 2)]
    listing = Listing.read({}, {"models": entries}, None, ("*",))

    assert len(list(unclear_models(listing, {}))) == MAX_COMPARED


@pytest.mark.parametrize("details", [None, [], "x", {"family": ["x"] * 100}, {"format": 5}])
def test_odd_details_look_alike(details: object) -> None:
    """Details of any kind are compared; those that cannot be read count as equal."""
    entries = [{**entry(f"m:{n}", digest=f"{n:064x}"), "details": details} for n in range(2)]
    listing = Listing.read({}, {"models": entries}, None, ("*",))

    assert len(list(unclear_models(listing, {}))) == 2


@pytest.mark.parametrize(
    ("modelfile", "blob"),
    [
        (f"# FROM m\n\nFROM /root/.ollama/models/blobs/{BLOB}\nTEMPLATE x", BLOB),
        (f"FROM C:\\Users\\x\\blobs\\{BLOB}", BLOB),
        (f'FROM "/with space/{BLOB}"\n', BLOB),
        (f"FROM {BLOB}\nFROM sha256-{'e' * 64}", BLOB),
        (f"# FROM /x/{BLOB}", ""),
        (f"SYSTEM FROM /x/{BLOB}", ""),
        (f"FROM /x/{BLOB}00", ""),
        ("FROM llama3.2", ""),
        ("FROM" + " " * 200_000, ""),
        ("FROM " + "/" * 200_000, ""),
        (None, ""),
    ],
)
def test_the_blob_of_a_description(modelfile: Any, blob: str) -> None:
    """The first `FROM` with a digest counts; a path on the backend is not kept."""
    assert blob_in({"modelfile": modelfile}) == blob
