from __future__ import annotations

import json

import pytest

from tests.keys.commands import as_json, ran, run

pytestmark = pytest.mark.usefixtures("data_dir")

NONE = {
    "requests_per_minute": None,
    "concurrent_requests": None,
    "tokens_per_day": None,
    "tokens_per_month": None,
}
ALL = (
    *("--requests-per-minute", "60", "--concurrent", "4"),
    *("--tokens-per-day", "100000", "--tokens-per-month", "0"),
)


def test_limits_are_none_of_its_own_unless_given() -> None:
    """JSON has every limit, null for the settings' default."""
    assert as_json("create", "ci")["limits"] == NONE
    assert as_json("list")[0]["limits"] == NONE
    assert as_json("show", "ci")["limits"] == NONE


def test_create_takes_limits() -> None:
    """Each option sets its limit; 0 differs from the default."""
    limits = {
        "requests_per_minute": 60,
        "concurrent_requests": 4,
        "tokens_per_day": 100000,
        "tokens_per_month": 0,
    }
    assert as_json("create", "ci", *ALL)["limits"] == limits
    assert as_json("list")[0]["limits"] == limits
    assert as_json("show", "ci")["limits"] == limits
    assert as_json("revoke", "ci")["limits"] == limits


def test_update_changes_only_the_limits_that_are_given() -> None:
    """The others stay, `default` resets one, and a limit alone is a change."""
    before = as_json("create", "ci", "--models", "m1", *ALL)
    after = as_json("update", "ci", "--concurrent", "0", "--tokens-per-month", "5")
    assert after["limits"] == {
        **before["limits"],
        "concurrent_requests": 0,
        "tokens_per_month": 5,
    }
    assert (after["name"], after["models"]) == ("ci", ["m1"])
    assert as_json("update", "ci", "--name", "cd")["limits"] == after["limits"]
    again = as_json("update", "cd", "--requests-per-minute", "default", "--name", "ce")
    assert again["limits"] == {**after["limits"], "requests_per_minute": None}
    assert again["name"] == "ce"


def test_an_imported_key_sets_no_limits() -> None:
    """A file of keys has no limits."""
    result = run("import", "-", "--json", stdin="legacy,sk-legacy-0123456789abcdef")
    assert json.loads(result.stdout)[0]["limits"] == NONE


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "-"),
        (["--tokens-per-day", "default"], "-"),
        (ALL, "60/min 4 at once 100k/day unlimited/month"),
        (["--tokens-per-day", "1234567"], "1,234,567/day"),
        (["--tokens-per-day", "1500000", "--concurrent", "1"], "1 at once 1,500k/day"),
        (["--tokens-per-month", "1000000000000"], "1T/month"),
        (["--tokens-per-month", "2000000"], "2M/month"),
    ],
)
def test_limits_are_a_few_words_for_people(arguments: list[str], words: str) -> None:
    """The last column of `list`, and a line of `show`; numbers are never rounded."""
    ran("create", "ci", *arguments)
    head, row = ran("list").splitlines()
    assert row[head.index("limits") :] == words
    assert f"limits:     {words}" in ran("show", "ci").splitlines()


@pytest.mark.parametrize(
    "option", ["--requests-per-minute", "--concurrent", "--tokens-per-day", "--tokens-per-month"]
)
@pytest.mark.parametrize(
    "text",
    ["", " ", "many", "-1", "+1", "1.5", "1e3", "1_000", "100k", "٣", "²", "none", "Default"],
)
def test_a_wrong_limit_is_exit_code_2(option: str, text: str) -> None:
    """The message names the option and the allowed values; no key is made or changed."""
    for command in (["create", "new"], ["update", "ci"]):
        result = run(*command, f"{option}={text}")
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"Invalid value for {option}:" in result.stderr
        assert "is not a whole number from 0 to 1000000000000, or default" in result.stderr
    assert as_json("list") == []


@pytest.mark.parametrize("text", ["1000000000001", "9" * 100, "9" * 100_000])
def test_a_limit_beyond_all_bounds_is_exit_code_2(text: str) -> None:
    """Any number of digits is refused."""
    result = run("create", "ci", "--tokens-per-day", text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr) < 2000
