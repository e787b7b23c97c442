"""`keep_alive` is read as Ollama reads it, so that no spelling escapes a rule."""

from __future__ import annotations

import math

import pytest

from ollama_gateway.simulator import clock
from ollama_gateway.wire.body import LongText
from ollama_gateway.wire.keep_alive import keep_alive_of, keep_alive_text

TAKEN = (
    *(0, 0.0, -0.0, 1, 60, 3600.5, -1, -0.5, 1e-3, 2**62, 1e200),
    *("0", "+0", "-0", "0s", "0h0m0s", "-0m", "0.0h", ".5s", "1.s", "+5m", "1h30m", "1.5h", "-1s"),
    *("1ms", "250ms", "7us", "7\u00b5s", "7\u03bcs", "1ns", "1h0.5m3s"),
)
REFUSED = (
    "",
    "00",
    "1",
    "5",
    "1d",
    "1 s",
    " 1s",
    "1s ",
    "s",
    "-",
    ".s",
    "1e3s",
    "0x1s",
    "1S",
    "inf",
)


@pytest.mark.parametrize("value", TAKEN, ids=repr)
def test_a_value_that_ollama_takes(value: float | str) -> None:
    """Numbers are seconds, texts are Go's durations, and negative ones mean for ever."""
    assert keep_alive_of({"Keep_Alive": value}) == pytest.approx(clock.keep_alive(value))


@pytest.mark.parametrize("value", REFUSED, ids=repr)
def test_a_text_that_ollama_refuses(value: str) -> None:
    """A text that is no duration names no time, and Ollama refuses it as well."""
    with pytest.raises(ValueError, match="duration"):
        clock.keep_alive(value)
    assert keep_alive_of({"keep_alive": value}) is None


@pytest.mark.parametrize("value", [None, True, False, [], {}, [0]], ids=repr)
def test_a_value_of_another_type(value: object) -> None:
    """Null names no time, and other types are refused by Ollama."""
    assert keep_alive_of({"keep_alive": value}) is None


@pytest.mark.parametrize("value", [1e-10, "0.1ns", "0s" * 501, LongText.of(10**6, 10**6)], ids=type)
def test_a_value_that_comes_to_nothing(value: object) -> None:
    """Less than a nanosecond counts as zero, and so does a text too long to be honest."""
    assert keep_alive_of({"keep_alive": value}) == 0


@pytest.mark.parametrize("value", ["1" * 1000, "1h" * 499 + "1", "." * 1000], ids=len)
def test_a_hostile_text_is_read_once(value: str) -> None:
    """A text on which a careless pattern would try all splits is just no duration."""
    assert keep_alive_of({"keep_alive": value}) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(1800.0, '"1800s"'), (0.25, '"250ms"'), (90.5, '"90500ms"')]
)
def test_a_time_is_written_for_every_version(seconds: float, text: str) -> None:
    """Whole seconds and milliseconds are durations that Go reads back."""
    assert keep_alive_text(seconds) == text
    assert math.isclose(clock.keep_alive(text.strip('"')), seconds)
