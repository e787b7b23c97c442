"""Cached tokens as backends report them: part of the prompt, whatever the report."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.wire.dialects import Dialect, ReportedUsage
from ollama_gateway.wire.dialects.reading import MAX_REPORTED_TOKENS
from tests.wire.test_usage import ANTHROPIC, OLLAMA, OPENAI, RESPONSES, read

NATIVE: dict[str, Any] = {"prompt_eval_count": 90, "eval_count": 2}


@pytest.mark.parametrize(
    ("dialect", "report", "prompt", "cached"),
    [
        (OLLAMA, NATIVE | {"prompt_eval_cached_count": 80}, 90, 80),
        (OLLAMA, NATIVE | {"prompt_eval_cached_count": 0}, 90, 0),
        (OLLAMA, NATIVE | {"prompt_eval_cached_count": 90}, 90, 90),
        (OLLAMA, NATIVE, 90, None),
        (OLLAMA, {"prompt_eval_count": 0, "prompt_eval_cached_count": 90, "eval_count": 2}, 90, 90),
        (OLLAMA, {"prompt_eval_cached_count": 90, "eval_count": 2}, 90, 90),
        (OLLAMA, {"prompt_eval_count": 3, "prompt_eval_cached_count": 90, "eval_count": 2}, 90, 90),
        (OLLAMA, {"prompt_eval_cached_count": 0, "eval_count": 2}, None, None),
        (OLLAMA, {"prompt_eval_cached_count": -90, "eval_count": 2}, None, None),
        (
            OPENAI,
            {"prompt_tokens": 90, "completion_tokens": 2, "prompt_tokens_details": {"x": 1}},
            90,
            None,
        ),
        (
            OPENAI,
            {
                "prompt_tokens": 90,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 0},
            },
            90,
            0,
        ),
        (
            OPENAI,
            {"completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 90}},
            90,
            90,
        ),
        (OPENAI, {"completion_tokens": 2, "prompt_tokens_details": [90]}, None, None),
        (
            RESPONSES,
            {"input_tokens": 0, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 90}},
            90,
            90,
        ),
        (
            RESPONSES,
            {"input_tokens": 90, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 80}},
            90,
            80,
        ),
        (
            RESPONSES,
            {"input_tokens": 90, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 0}},
            90,
            None,
        ),
        (
            ANTHROPIC,
            {"input_tokens": 10, "cache_read_input_tokens": 80, "output_tokens": 2},
            90,
            80,
        ),
        (
            ANTHROPIC,
            {"input_tokens": 0, "cache_read_input_tokens": 90, "output_tokens": 2},
            90,
            90,
        ),
        (ANTHROPIC, {"input_tokens": 90, "cache_read_input_tokens": 0, "output_tokens": 2}, 90, 0),
        (
            ANTHROPIC,
            {
                "input_tokens": 10,
                "cache_creation_input_tokens": 20,
                "cache_read_input_tokens": 60,
                "output_tokens": 2,
            },
            90,
            60,
        ),
        (
            ANTHROPIC,
            {"input_tokens": 10, "cache_creation_input_tokens": 80, "output_tokens": 2},
            90,
            None,
        ),
        (
            ANTHROPIC,
            {"input_tokens": 10, "cache_read_input_tokens": -9, "output_tokens": 2},
            10,
            None,
        ),
    ],
)
def test_cached_tokens_are_part_of_the_prompt(
    dialect: Dialect, report: dict[str, Any], prompt: int | None, cached: int | None
) -> None:
    """They are in the prompt's count, beside it in Anthropic's, or alone it; else unknown."""
    assert read(dialect, report) == ReportedUsage(prompt, 2, cached)


def test_the_time_to_read_a_prompt_is_told_in_nanoseconds() -> None:
    """Ollama's own API tells it; a value that is no duration tells nothing."""
    for value, seconds in [(15 * 10**8, 1.5), (0, None), (-1, None), (1.5, None), (10**400, None)]:
        usage = read(OLLAMA, NATIVE | {"prompt_eval_duration": value})
        assert usage == ReportedUsage(90, 2, prompt_seconds=seconds)


COUNTS = st.one_of(
    st.integers(-(10**10), 10**10),
    st.integers(0, 100),
    st.booleans(),
    st.floats(),
    st.text(max_size=3),
    st.none(),
    st.lists(st.integers(), max_size=2),
)


@pytest.mark.parametrize("dialect", [OLLAMA, OPENAI, RESPONSES, ANTHROPIC])
@given(prompt=COUNTS, cached=COUNTS, created=COUNTS, completion=COUNTS)
def test_no_report_tells_of_more_cached_tokens_than_the_prompt_has(
    dialect: Dialect, prompt: object, cached: object, created: object, completion: object
) -> None:
    """Whatever a backend writes, cached tokens are from 0 to the prompt's, and none without one."""
    usage = read(dialect, hostile_report(dialect, prompt, cached, created, completion))

    if usage is not None and usage.cached is not None:
        assert type(usage.cached) is int
        assert usage.prompt is not None
        assert 0 <= usage.cached <= usage.prompt <= MAX_REPORTED_TOKENS


def hostile_report(
    dialect: Dialect, prompt: object, cached: object, created: object, completion: object
) -> dict[str, Any]:
    """Return a report with these values where the dialect has its counts."""
    if dialect is OLLAMA:
        counts = {"prompt_eval_count": prompt, "prompt_eval_cached_count": cached}
        return {**counts, "eval_count": completion}
    if dialect is OPENAI:
        counts = {"prompt_tokens": prompt, "completion_tokens": completion}
        return {**counts, "prompt_tokens_details": {"cached_tokens": cached}}
    counts = {"input_tokens": prompt, "output_tokens": completion}
    if dialect is RESPONSES:
        return {**counts, "input_tokens_details": {"cached_tokens": cached}}
    cache = {"cache_read_input_tokens": cached, "cache_creation_input_tokens": created}
    return {**counts, **cache}
