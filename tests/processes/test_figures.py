"""The metrics of several processes as one page."""

from __future__ import annotations

from prometheus_client import Gauge

from ollama_gateway.metrics import Metrics
from ollama_gateway.processes.figures import (
    MAX_GAUGES,
    MIN_GAUGES,
    MetricFamilies,
    page,
    read,
    total,
    without_gauges,
)


def figures_of(metrics: Metrics) -> MetricFamilies:
    """Read the metrics of a process as the parent does."""
    return read(metrics.page().decode())


def counted(chats: int, *, seconds: float = 0.2, busy: int = 0, is_up: bool = True) -> Metrics:
    """Make the metrics of a process that served some chats."""
    metrics = Metrics()
    for _ in range(chats):
        metrics.request("/api/chat", "m", "a", "completed")
        metrics.first_chunk("/api/chat", "a", seconds)
    metrics.backends({"a": (is_up, busy)})
    return metrics


def lines(figures: MetricFamilies) -> list[str]:
    """Return the page's lines without comments."""
    text = page(figures, 2, {0: 0, 1: 3}).decode()
    return [line for line in text.splitlines() if not line.startswith("#")]


def test_one_process_alone_is_its_own_page() -> None:
    """The parent passes on a single process's metrics unchanged."""
    metrics = counted(3, busy=2)

    text = page(figures_of(metrics), 1, {}).decode()

    assert text.startswith(metrics.page().decode())


def test_counters_and_histograms_add_up() -> None:
    """Each sample adds up by its labels, even if only one process has them."""
    one, other = counted(3, seconds=0.2), counted(4, seconds=0.7)
    other.request("/api/chat", "m", "b", "completed")

    found = lines(total([figures_of(one), figures_of(other)]))

    labels = 'endpoint="/api/chat",model="m",outcome="completed"'
    assert f'ollama_gateway_requests_total{{backend="a",{labels}}} 7.0' in found
    assert f'ollama_gateway_requests_total{{backend="b",{labels}}} 1.0' in found
    chunk = 'ollama_gateway_first_chunk_seconds_bucket{backend="a",endpoint="/api/chat",le='
    assert f'{chunk}"0.25"}} 3.0' in found
    assert f'{chunk}"1.0"}} 7.0' in found
    assert f'{chunk}"+Inf"}} 7.0' in found


def test_gauges_add_up_but_a_backend_is_up_or_down() -> None:
    """A backend that one or two processes can use is up once."""
    one, other = counted(0, busy=2), counted(0, busy=3, is_up=False)

    found = lines(total([figures_of(one), figures_of(other), figures_of(counted(0))]))

    assert 'ollama_gateway_backend_in_flight{backend="a"} 5.0' in found
    assert 'ollama_gateway_backend_up{backend="a"} 1.0' in found


def test_of_an_ended_process_what_was_counted_stays() -> None:
    """Counters and histograms of an ended process stay; its gauges do not."""
    found = lines(total([without_gauges(figures_of(counted(3, busy=2)))]))

    assert any(line.startswith("ollama_gateway_requests_total") for line in found)
    assert any(line.startswith("ollama_gateway_first_chunk_seconds_sum") for line in found)
    assert not [line for line in found if "in_flight" in line or "backend_up" in line]


def test_the_page_says_how_many_processes_there_are() -> None:
    """The page has the number of serving processes and the restarts of each."""
    found = lines({})

    assert "ollama_gateway_processes 2.0" in found
    assert 'ollama_gateway_process_restarts_total{process="0"} 0.0' in found
    assert 'ollama_gateway_process_restarts_total{process="1"} 3.0' in found


def test_every_gauge_was_thought_about() -> None:
    """Every gauge is listed here or in a set of `figures`: none is added up by mistake."""
    added = {
        "ollama_gateway_settlements_waiting",
        "ollama_gateway_backend_in_flight",
        "ollama_gateway_waiting",
        "ollama_gateway_audit_rows_unmoved",
        "ollama_gateway_audit_rows_waiting",
        "ollama_gateway_connections",
    }
    gauges = {made._name for made in vars(Metrics()).values() if isinstance(made, Gauge)}

    assert gauges == added | MAX_GAUGES | MIN_GAUGES
