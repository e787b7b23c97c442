"""The page, read by Prometheus's own parsers."""

from __future__ import annotations

import gzip
from typing import Any

import pytest
from prometheus_client import parser

from ollama_gateway.metrics import Metrics, running
from ollama_gateway.metrics.counted import DEFINITIONS
from ollama_gateway.metrics.exposition import (
    FORMS,
    LINES,
    OPEN_METRICS,
    SAMPLES_PER_STEP,
    TEXT,
    PageForm,
    form_for,
    read_lines,
    render,
    wants_gzip,
)
from ollama_gateway.metrics.families import SampleFamily
from ollama_gateway.turns import run_through

PROMETHEUS = (
    b"application/openmetrics-text;version=1.0.0;q=0.5,"
    b"application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
"""What Prometheus 2.42 asks for."""
EVIL = 'a"b\\c\nd}'


def busy() -> Metrics:
    """Return metrics with counts of every kind."""
    metrics = Metrics()
    metrics.request("/api/chat", EVIL, "a", "completed")
    for seconds in (0.05, 0.2, 7, 1000):
        metrics.first_chunk("/api/chat", "a", seconds)
    metrics.stored("keys", 0.002, has_failed=True)
    return metrics


def page_of(metrics: Metrics, form: PageForm) -> str:
    """Render a page."""
    return run_through(render(metrics.families.values(), form)).decode()


def families_of(page: str, form: PageForm) -> dict[str, Any]:
    """Read a page as Prometheus does."""
    read: Any = parser.text_string_to_metric_families
    if form.is_open_metrics:
        from prometheus_client.openmetrics.parser import (  # noqa: PLC0415 - not typed
            text_string_to_metric_families as read,
        )
    return {found.name: found for found in read(page)}


@pytest.mark.parametrize("form", [TEXT, FORMS[OPEN_METRICS]])
def test_prometheus_reads_the_page(form: PageForm) -> None:
    """Both forms have all families with kind and text, and any label comes back unchanged."""
    metrics = busy()

    found = families_of(page_of(metrics, form), form)

    for name, family in metrics.families.items():
        if family.cells:
            assert (found[name].type, found[name].documentation) == (
                family.definition.kind,
                family.definition.help,
            )
    [sample] = found["ollama_gateway_requests"].samples
    assert (sample.name, sample.labels["model"], sample.value) == (
        "ollama_gateway_requests_total",
        EVIL,
        1,
    )
    first = found["ollama_gateway_first_chunk_seconds"].samples
    chunks = {s.labels.get("le", s.name): s.value for s in first}
    bounds = ("0.05", "0.25", "5.0", "10.0", "300.0", "+Inf")
    assert [chunks[bound] for bound in bounds] == [1, 2, 2, 3, 3, 4]
    assert chunks["ollama_gateway_first_chunk_seconds_count"] == 4
    assert chunks["ollama_gateway_first_chunk_seconds_sum"] == 1007.25


def test_openmetrics_ends_with_its_mark() -> None:
    """A page that was cut can be told from a whole one."""
    assert page_of(Metrics(), FORMS[OPEN_METRICS]).endswith("\n# EOF\n")
    assert "EOF" not in page_of(Metrics(), TEXT)


@pytest.mark.parametrize(
    ("accept", "name"),
    [
        (PROMETHEUS, OPEN_METRICS),
        (b"*/*", "text/plain"),
        (b"", "text/plain"),
        (b"application/json", "text/plain"),
        (b"text/plain, application/openmetrics-text;q=0", "text/plain"),
        (b"Application/OpenMetrics-Text; version=1.0.0 ; Q = 0.9", OPEN_METRICS),
        (b"application/openmetrics-text;q=nonsense", OPEN_METRICS),
        (b"application/openmetrics-text;q=1.1.1", "text/plain"),
        (b"application/x-ndjson", LINES),
        (b"\xff;;;q=,,,=;q=0.1", "text/plain"),
    ],
)
def test_the_form_is_that_which_is_asked_for(accept: bytes, name: str) -> None:
    """Prometheus gets OpenMetrics, a browser plain text, and nonsense does no harm."""
    assert form_for([(b"Accept", accept)]) is FORMS[name]


@pytest.mark.parametrize(
    ("given", "is_wanted"),
    [(b"gzip", True), (b"br, GZIP;q=0.1", True), (b"gzip;q=0", False), (b"*", False), (b"", False)],
)
def test_gzip_where_it_is_asked_for(given: bytes, *, is_wanted: bool) -> None:
    """Only a client that names gzip gets it."""
    assert wants_gzip([(b"accept-encoding", given)]) is is_wanted


def test_the_compressed_page_is_the_same() -> None:
    """Unpacked, it has the same bytes."""
    families = busy().families.values()

    packed = run_through(render(families, gzip=True))

    assert gzip.decompress(packed) == run_through(render(families))


def test_a_long_page_has_many_short_steps() -> None:
    """Other tasks can go on after each few samples, however many there are."""
    metrics = Metrics()
    for number in range(1000):
        metrics.tokens(f"m{number}", "a", None, None, 1)

    steps = sum(1 for _ in render(metrics.families.values()))

    assert steps >= 1000 / SAMPLES_PER_STEP
    assert SAMPLES_PER_STEP <= 50


def test_a_sample_that_is_no_number_can_be_read() -> None:
    """Infinite values have Prometheus's words."""
    family = SampleFamily(running.STORE_UP)
    for store, value in (("a", float("inf")), ("b", float("-inf")), ("c", float("nan"))):
        family.put(value, store)

    page = run_through(render([family])).decode()

    assert [line.rpartition(" ")[2] for line in page.splitlines()[2:]] == ["+Inf", "-Inf", "NaN"]


def test_lines_hold_the_same_as_the_page() -> None:
    """A parent that reads the lines of a process shows what that process shows."""
    metrics = busy()
    lines = run_through(render(metrics.families.values(), FORMS[LINES]))

    read = run_through(read_lines(lines, DEFINITIONS))

    assert run_through(render(read.values())).decode() == page_of(metrics, TEXT)
