from __future__ import annotations

from typing import Any

import anyio
import attrs
import pytest

from ollama_gateway.keys.key import APIKey, KeyLimits, WrongValue
from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.keys.looking import Look

pytestmark = pytest.mark.virtual_time

NAMES = [field.name for field in attrs.fields(KeyLimits)]


def test_a_key_has_no_limits_of_its_own() -> None:
    """By default every limit is that of the settings."""
    assert APIKey("abcd2345", "ci").limits == KeyLimits(None, None, None, None)


def test_the_principal_carries_the_limits() -> None:
    """The principal has the key's limits."""
    limits = KeyLimits(60, 4, 0, None)
    assert APIKey("abcd2345", "ci", limits=limits).principal().limits == limits


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [None, 0, 1, 10**12])
def test_a_limit_is_nothing_or_a_number(name: str, value: int | None) -> None:
    """None and 0 differ, and the largest is 10**12."""
    given: dict[str, Any] = {name: value}
    assert getattr(KeyLimits(**given), name) is value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "value", [-1, 10**12 + 1, 10**4000, True, 1.0, float("nan"), "60", b"60", "6\n0", []]
)
def test_a_wrong_limit_is_refused(name: str, value: object) -> None:
    """One line names the field and does not repeat the value."""
    given: dict[str, Any] = {name: value}
    with pytest.raises(WrongValue) as caught:
        KeyLimits(**given)
    assert str(caught.value) == f"{name} is not a whole number from 0 to 1000000000000"


async def test_a_changed_limit_takes_effect_within_a_second(
    look: Look, command: SQLiteKeys
) -> None:
    """Changed limits of a cached key take effect as fast as changed rights."""
    _, text = command.create("ci", limits=KeyLimits(requests_per_minute=60))
    assert (await look.cache.identify(text)).limits.requests_per_minute == 60
    command.update("ci", limits=KeyLimits(requests_per_minute=1))
    await anyio.sleep(1)
    assert (await look.cache.identify(text)).limits.requests_per_minute == 1
