from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.settings import units


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("250ms", 0.25),
        ("9ms", 0.009),
        ("0s", 0.0),
        ("1.5s", 1.5),
        ("30s", 30.0),
        ("30 s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("400d", 34_560_000.0),
        ("36500d", units.MAX_SECONDS),
    ],
)
def test_a_duration_is_read_in_seconds(text: str, expected: float) -> None:
    """Every unit has its factor, and fractions are exact."""
    assert units.seconds(text) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "30",
        "s",
        "-1s",
        "+1s",
        "1e3s",
        "infs",
        "nans",
        "5 parsecs",
        "5M",
        "1h30m",
        " 5s",
        "5s\n",
        "٣s",
        "36501d",
        "9" * 16 + "s",
        pytest.param("9" * 5000 + "s", id="long"),
        30,
        30.0,
        True,
        None,
        [],
        {},
    ],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    """A number without a unit, a sign, or digits of another script is no duration."""
    with pytest.raises(ValueError, match=r"^[^\n]{1,200}$"):
        units.seconds(value)


def test_the_message_shows_what_a_duration_looks_like() -> None:
    """The error shows three good durations."""
    with pytest.raises(ValueError, match="parsecs") as caught:
        units.seconds("5 parsecs")
    assert str(caught.value) == '"5 parsecs" is not a duration like "250ms", "30s", "5m"'


def test_zero_is_refused_where_it_makes_no_sense() -> None:
    """A duration that must not be zero refuses zero."""
    with pytest.raises(ValueError, match="longer than 0s"):
        units.some_seconds("0ms")


@pytest.mark.parametrize(("value", "expected"), [("auto", "auto"), ("off", "off"), ("2s", 2.0)])
def test_a_hedge_delay_is_a_duration_or_a_word(value: str, expected: object) -> None:
    """`auto` and `off` are kept, all else is a duration."""
    assert units.hedge_delay(value) == expected


@given(st.integers(0, 10**9).map(lambda count: count / 1000))
def test_a_shown_duration_reads_back(value: float) -> None:
    """The shown form reads back as the same value."""
    assert units.seconds(units.show_seconds(value)) == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1", 1),
        (1, 1),
        ("512B", 512),
        ("1KiB", 1024),
        ("64MiB", 64 * 2**20),
        ("64 mib", 64 * 2**20),
        ("1GiB", 2**30),
        ("2TiB", 2**41),
        ("1kB", 1000),
        ("3MB", 3_000_000),
        ("1GB", 10**9),
    ],
)
def test_a_size_is_read_in_bytes(value: object, expected: int) -> None:
    """Binary and decimal units differ; a plain number is bytes."""
    assert units.some_bytes(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "0",
        0,
        -1,
        "-1MiB",
        "1.5GiB",
        "64M",
        "64 parsecs",
        "MiB",
        "9" * 19 + "TiB",
        1.5,
        True,
        2**63,
        pytest.param(16**9999, id="huge"),
        None,
        [],
    ],
)
def test_what_is_no_size_is_refused(value: object) -> None:
    """Zero, fractions, unknown units and more than 64 bits are no size."""
    with pytest.raises(ValueError, match=r"^[^\n]{1,200}$"):
        units.some_bytes(value)


@given(st.integers(1, 2**50))
def test_a_shown_size_reads_back(value: int) -> None:
    """The shown form reads back as the same value."""
    assert units.some_bytes(units.show_bytes(value)) == value


@pytest.mark.parametrize(
    "value", [-1, 2**63, 1.0, "1", True, None, float("nan"), pytest.param(16**9999, id="huge")]
)
def test_what_is_no_count_is_refused(value: object) -> None:
    """A count is a whole number up to 64 bits; true is not one."""
    with pytest.raises(ValueError, match="whole number"):
        units.counted(0)(value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("inf"), float("nan"), "0.5", True, None])
def test_what_is_no_ratio_is_refused(value: object) -> None:
    """A ratio is a finite number from 0 to 1."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        units.ratio(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("TRUE", True), ("true", True), ("1", True), ("false", False), ("0", False), ("yes", "yes")],
)
def test_a_switch_in_a_variable(text: str, expected: object) -> None:
    """Four words are converted, other text goes to the reader, which refuses it."""
    assert units.flag_from_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", ["a"]),
        ("a, b,", ["a", "b"]),
        ('["a,b", "c"]', ["a,b", "c"]),
        ("[broken", "[broken"),
        pytest.param("[" * 100_000, "[" * 100_000, id="deep"),
    ],
)
def test_a_list_in_a_variable(text: str, expected: object) -> None:
    """Commas or JSON are converted; broken or deep JSON goes to the reader, which refuses it."""
    assert units.list_from_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3),
        ("-3", -3),
        ("0.05", 0.05),
        ("nan", "nan"),
        ("inf", "inf"),
        ("x", "x"),
        pytest.param("9" * 5000, "9" * 5000, id="long"),
    ],
)
def test_a_number_in_a_variable(text: str, expected: object) -> None:
    """Numbers are converted; nan, inf and endless ones stay text."""
    assert units.number_from_text(text) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\n\x1b[0m", r'"a\n\u001b[0m"'),
        pytest.param("x" * 1000, '"' + "x" * 60 + '..."', id="long"),
        ("\udcff", r'"\udcff"'),
        (True, "true"),
        (None, "null"),
        (3, "3"),
        pytest.param(16**9999, "a number beyond 64 bits", id="huge"),
        ([1], "a list"),
        ({"a": 1}, "a table"),
        (datetime(2020, 1, 1, tzinfo=UTC), "a date or time"),
    ],
)
def test_a_value_in_a_message(value: object, expected: str) -> None:
    """A message shows a value clipped, escaped and on one line."""
    assert units.shown(value) == expected


@pytest.mark.parametrize(
    ("text", "share"), [("all", 1.0), ("failed", 0.0), ("sampled 0.01", 0.01), ("sampled .5", 0.5)]
)
def test_the_share_of_requests_that_are_logged(text: str, share: float) -> None:
    """The share is read and shown in words."""
    assert units.logged_share(text) == share
    assert units.logged_share(units.show_logged_share(share)) == share


@pytest.mark.parametrize("value", ["", "some", "sampled", "sampled 1", "sampled 0.0", "0.01", 0.5])
def test_what_is_no_share(value: object) -> None:
    """Everything else is refused, with the three ways."""
    with pytest.raises(ValueError, match=r'is not one of "all", "failed", "sampled 0\.01"'):
        units.logged_share(value)
