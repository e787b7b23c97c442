"""Wrong admin tokens: how many an address may send, and what that stops."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.control.actor import LOCAL, SETTINGS, Actor
from ollama_gateway.control.local_token import LocalToken
from ollama_gateway.errors import GatewayError, LimitReached, Unauthorized, Unavailable
from ollama_gateway.keys.admin_token_cache import AdminTokenCache
from ollama_gateway.keys.admin_tokens import AdminToken, new_token_text
from ollama_gateway.keys.key import digest_of
from ollama_gateway.server.admin_attempts import (
    MOST_ADDRESSES,
    MOST_ATTEMPTS,
    WINDOW,
    FailedAttempts,
)
from ollama_gateway.server.admin_checks import AdminChecks, actor_in, header_of
from ollama_gateway.storage.batcher import BatchFailed, in_place

Clock = trio.testing.MockClock
OURS = "operators-only-token"
HERE, THERE = "127.0.0.1", "192.0.2.1"


class Store:
    """The tokens of a store, which may fail."""

    def __init__(self) -> None:
        self.tokens: dict[str, AdminToken] = {}
        self.is_away = False
        self.asked = 0

    async def find(self, digest: str) -> AdminToken | None:
        """Look up one."""
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise BatchFailed
        return self.tokens.get(digest)

    def add(self, name: str) -> str:
        """Add an operator's token; return its text."""
        text = new_token_text()
        self.tokens[digest_of(text)] = AdminToken(name, "operator")
        return text


async def outcome(checks: AdminChecks, text: str, client: str = HERE) -> str | int:
    """Return the actor's name, or the status."""
    try:
        return (await checks.actor_of(text, client, OURS)).name
    except GatewayError as error:
        return error.status


async def test_ten_wrong_tokens_in_a_minute(
    autojump_clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The eleventh is 429 until the first is a minute old, also if it is the right one; another
    address is not touched."""
    checks = AdminChecks()
    for number in range(MOST_ATTEMPTS):
        assert await outcome(checks, f"guess-{number}") == 401
    with pytest.raises(LimitReached) as caught:
        await checks.actor_of(OURS, HERE, OURS)
    assert 0 < caught.value.retry_after <= WINDOW
    assert await outcome(checks, OURS, THERE) == "settings"
    await trio.sleep(WINDOW)
    assert await outcome(checks, OURS) == "settings"


async def test_tokens_of_256_bits_are_not_locked_out(
    autojump_clock: Clock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """At an address that guesses, the local token and tokens seen lately still count; an unknown
    one costs no look-up."""
    store, local = Store(), LocalToken(tmp_path_factory.mktemp("data") / "t", in_place)
    local.renew()
    checks = AdminChecks(AdminTokenCache(store.find), local)
    seen, unseen = store.add("seen"), store.add("unseen")
    assert await outcome(checks, seen) == "seen"
    for _ in range(MOST_ATTEMPTS):
        assert await outcome(checks, new_token_text()) == 401
    asked = store.asked
    assert await outcome(checks, unseen) == 429
    assert store.asked == asked
    await trio.sleep(2)
    assert await outcome(checks, seen) == "seen"
    assert await outcome(checks, local.path.read_text().strip()) == "local"


async def test_guesses_at_once_are_counted(autojump_clock: Clock) -> None:
    """Tokens that are looked up at the same time do not pass the count together."""
    checks = AdminChecks(AdminTokenCache(Store().find))
    found: list[str | int] = []

    async def guess() -> None:
        found.append(await outcome(checks, new_token_text()))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(guess)

    assert sorted(map(str, found)) == ["401"] * MOST_ATTEMPTS + ["429"] * (50 - MOST_ATTEMPTS)


async def test_a_store_that_does_not_answer(
    autojump_clock: Clock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Then tokens seen lately, the local one and that of the settings count; others get a 503,
    which is no failed attempt."""
    store, local = Store(), LocalToken(tmp_path_factory.mktemp("data") / "t", in_place)
    local.renew()
    checks = AdminChecks(AdminTokenCache(store.find), local)
    seen, unseen = store.add("seen"), store.add("unseen")
    assert await outcome(checks, seen) == "seen"
    store.is_away = True
    await trio.sleep(30)
    assert await outcome(checks, seen) == "seen"
    for _ in range(2 * MOST_ATTEMPTS):
        with pytest.raises(Unavailable):
            await checks.actor_of(unseen, HERE, OURS)
    assert await checks.actor_of(OURS, HERE, OURS) == SETTINGS
    assert await checks.actor_of(local.path.read_text().strip(), HERE, OURS) == LOCAL


async def test_a_local_token_that_others_could_read(
    autojump_clock: Clock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A file whose mode was changed opens nothing; a gateway that starts makes another one that
    running gateways read."""
    path = tmp_path_factory.mktemp("data") / "t"
    one, other = LocalToken(path, in_place), LocalToken(path, in_place)
    one.renew()
    first = path.read_text().strip()
    other.renew()
    second = path.read_text().strip()
    assert [await one.is_text(first), await one.is_text(second)] == [False, True]
    path.write_text(f"{first}\n")
    path.chmod(0o644)
    assert not await one.is_text(first)
    with pytest.raises(Exception, match="has the mode 0644, not 0600: remove it"):
        other.renew()


async def test_memory_is_bounded(autojump_clock: Clock) -> None:
    """However many addresses fail, a fixed number is held; an IPv6 /64 counts as one."""
    attempts = FailedAttempts()
    for number in range(MOST_ADDRESSES + 10):
        attempts.note(f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}")
    assert len(attempts._times) == MOST_ADDRESSES
    for number in range(MOST_ATTEMPTS):
        attempts.note(f"fd00::{number}")
    assert attempts.seconds_left("fd00::ffff") > 0
    assert attempts.seconds_left("fd00:0:0:1::1") == 0


def test_a_parent_names_the_actor() -> None:
    """A name of any characters reaches the process as it is; without it the asker is a reader."""
    actor = Actor("ops é\n x", "operator")
    assert actor_in([header_of(actor)]) == actor
    assert actor_in([(b"x-gateway-actor", b"root x")]).role == "viewer"
    assert actor_in([]).role == "viewer"


async def test_a_wrong_token_is_repeated_nowhere(autojump_clock: Clock) -> None:
    """No text of a token is in an error or a repr."""
    checks, text = AdminChecks(AdminTokenCache(Store().find)), new_token_text()
    with pytest.raises(Unauthorized) as caught:
        await checks.actor_of(text, HERE, OURS)
    assert text not in repr(checks) + repr(caught.value)
