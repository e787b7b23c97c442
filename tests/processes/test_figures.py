"""The metrics of several processes as one page."""

from __future__ import annotations

from ollama_gateway.metrics import Metrics, traffic
from ollama_gateway.metrics.counted import DEFINITIONS
from ollama_gateway.metrics.exposition import FORMS, LINES, read_lines, render
from ollama_gateway.metrics.families import SampleFamily
from ollama_gateway.processes import figures
from ollama_gateway.processes.figures import MetricFamilies, of_processes, without_gauges
from ollama_gateway.turns import run_through


def figures_of(metrics: Metrics, **gauges: tuple[str, float]) -> MetricFamilies:
    """Read the metrics of a process as the parent does."""
    families = dict(metrics.families)
    for name, (backend, value) in gauges.items():
        family = SampleFamily(DEFINITIONS[f"ollama_gateway_{name}"])
        family.put(value, backend)
        families[family.definition.name] = family
    page = run_through(render(families.values(), FORMS[LINES]))
    return run_through(read_lines(page, DEFINITIONS))


def total(*of: MetricFamilies) -> dict[str, SampleFamily]:
    """Combine the metrics of processes."""
    return run_through(figures.total(of))


def counted(chats: int, *, seconds: float = 0.2) -> Metrics:
    """Make the metrics of a process that served some chats."""
    metrics = Metrics()
    for _ in range(chats):
        metrics.request("/api/chat", "m", "a", "completed")
        metrics.first_chunk("/api/chat", "a", seconds)
    return metrics


def lines(found: MetricFamilies) -> list[str]:
    """Return the page's lines without comments."""
    text = run_through(render(found.values())).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_one_process_alone_is_its_own_page() -> None:
    """The parent passes on a single process's metrics unchanged."""
    metrics = counted(3)

    found = total(figures_of(metrics))

    assert sorted(lines(found)) == sorted(lines(metrics.families))


def test_counters_and_histograms_add_up() -> None:
    """Each sample adds up by its labels, even if only one process has them."""
    one, other = counted(3, seconds=0.2), counted(4, seconds=0.7)
    other.request("/api/chat", "m", "b", "completed")

    found = lines(total(figures_of(one), figures_of(other)))

    labels = 'endpoint="/api/chat",model="m",outcome="completed"'
    assert f'ollama_gateway_requests_total{{backend="a",{labels}}} 7.0' in found
    assert f'ollama_gateway_requests_total{{backend="b",{labels}}} 1.0' in found
    chunk = 'ollama_gateway_first_chunk_seconds_bucket{backend="a",endpoint="/api/chat",le='
    assert f'{chunk}"0.25"}} 3.0' in found
    assert f'{chunk}"1.0"}} 7.0' in found
    assert f'{chunk}"+Inf"}} 7.0' in found


def test_gauges_add_up_but_a_backend_is_up_or_down() -> None:
    """A backend that one or two processes can use is up once; it is paused if it is for all."""
    one = {"backend_up": ("a", 1.0), "backend_in_flight": ("a", 2.0), "backend_paused": ("a", 1.0)}
    other = {"backend_up": ("a", 0.0), "backend_in_flight": ("a", 3.0), "backend_paused": ("a", 0)}

    found = lines(total(figures_of(Metrics(), **one), figures_of(Metrics(), **other)))

    assert 'ollama_gateway_backend_in_flight{backend="a"} 5.0' in found
    assert 'ollama_gateway_backend_up{backend="a"} 1.0' in found
    assert 'ollama_gateway_backend_paused{backend="a"} 0.0' in found


def test_of_an_ended_process_what_was_counted_stays() -> None:
    """Counters and histograms of an ended process stay; its gauges do not."""
    ended = figures_of(counted(3), backend_in_flight=("a", 2.0))

    found = lines(total(without_gauges(ended)))

    assert any(line.startswith("ollama_gateway_requests_total") for line in found)
    assert any(line.startswith("ollama_gateway_first_chunk_seconds_sum") for line in found)
    assert not [line for line in found if "in_flight" in line or "last_reload" in line]


def test_a_sum_leaves_the_summands_as_they_are() -> None:
    """What an ended process had counted is added to each later page, once."""
    ended = figures_of(counted(3))
    for _ in range(2):
        found = total(ended, figures_of(counted(4)))

    labels = ("/api/chat", "m", "a", "completed")
    assert found[traffic.REQUESTS.name].cells[labels] == [7.0]


def test_the_page_says_how_many_processes_there_are() -> None:
    """The page has the number of serving processes and the restarts of each."""
    found = lines(of_processes(2, {0: 0, 1: 3}))

    assert "ollama_gateway_processes 2.0" in found
    assert 'ollama_gateway_process_restarts_total{process="0"} 0.0' in found
    assert 'ollama_gateway_process_restarts_total{process="1"} 3.0' in found


def test_the_bound_holds_for_all_processes_together() -> None:
    """Processes that each have other models have no more series together, and lose no count."""
    parts = []
    for number in range(4):
        metrics = Metrics()
        for model in range(400):
            metrics.tokens(f"m{number}-{model}", "a", None, None, 1)
        parts.append(figures_of(metrics))

    family = total(*parts)[traffic.TOKENS.name]

    assert len(family.cells) <= traffic.TOKENS.most
    assert sum(cell[0] for cell in family.cells.values()) == 1600


def test_another_version_of_a_process_does_no_harm() -> None:
    """A sample that does not fit the parent's definitions is left out; the others count."""
    strange = (
        b'["ollama_gateway_unheard_of",[],[1]]\n["ollama_gateway_requests",["a"],[1]]\n'
        b'["ollama_gateway_hedges",["won"],[2]]\n["ollama_gateway_line_seconds",["served"],[1]]\n'
    )

    found = run_through(read_lines(strange, DEFINITIONS))

    assert {name: family.cells for name, family in found.items()} == {
        "ollama_gateway_hedges": {("won",): [2]}
    }


def test_every_gauge_was_thought_about() -> None:
    """Every gauge is listed here or has a rule of its own: none is added up by mistake."""
    added = {
        "settlements_waiting",
        "backend_in_flight",
        "backend_slots",
        "waiting",
        "requests_in_stage",
        "audit_rows_unmoved",
        "audit_rows_waiting",
        "journal_bytes",
        "connections",
        "processes",
    }
    gauges = [made for made in DEFINITIONS.values() if made.kind == "gauge"]
    names = {made.name.removeprefix("ollama_gateway_") for made in gauges if made.merge == "sum"}

    of_the_system = {
        f"process_{what}" for what in ("resident_memory_bytes", "virtual_memory_bytes")
    }
    assert names == added | of_the_system | {"process_open_fds"}
