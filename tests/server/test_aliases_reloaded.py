"""A reload changes aliases everywhere at once, and no request that has begun."""

from __future__ import annotations

import attrs
import trio
from trio.testing import MockClock

from ollama_gateway.models.aliases import Aliases, alias_of
from ollama_gateway.settings import Settings
from ollama_gateway.simulator import Model
from tests.support.reloading import Change, Reloadable, reloadable
from tests.support.scenario import Reply

MODELS = (
    Model("big:70b", tuple("0123456789"), between_tokens=1),
    Model("small:8b"),
)


def aliased(*aliases: tuple[str, str]) -> Change:
    """Return a change to these aliases, each with its model."""

    def change(settings: Settings) -> Settings:
        table = Aliases(tuple(alias_of(name, [model]) for name, model in aliases))
        return attrs.evolve(settings, aliases=table)

    return change


async def chat(gateway: Reloadable) -> Reply:
    """Ask by the alias."""
    say = [{"role": "user", "content": "hi"}]
    return await gateway.scenario.ask(body={"model": "gpt-4o", "messages": say})


async def listed(gateway: Reloadable) -> list[str]:
    """Return the names in `/api/tags`."""
    reply = await gateway.scenario.ask("/api/tags", method="GET")
    return [entry["name"] for entry in reply.document["models"]]


async def explained(gateway: Reloadable) -> str:
    """Return the model of which the admin listener tells."""
    reply = await gateway.scenario.ask("/explain/gpt-4o", method="GET", is_admin=True)
    return str(reply.document["model"])


async def test_other_aliases_count_from_the_reload_on(autojump_clock: MockClock) -> None:
    """Requests, lists, descriptions and explain follow; the changes are named."""
    async with reloadable(models=MODELS) as gateway:
        before = (await chat(gateway)).status, await listed(gateway), await explained(gateway)
        paths = [await gateway.reload(aliased(("gpt-4o", "big:70b")))]
        first = (await chat(gateway)).headers, await listed(gateway), await explained(gateway)
        paths.append(await gateway.reload(aliased(("gpt-4o", "small:8b"), ("o*", "big:70b"))))
        second = (await chat(gateway)).headers, await listed(gateway), await explained(gateway)
        paths.append(await gateway.reload(aliased(("o*", "big:70b"), ("gpt-4o", "small:8b"))))
        shown = await gateway.scenario.ask("/v1/models/gpt-4o", method="GET")

    assert before == (403, ["big:70b", "small:8b"], "gpt-4o:latest")
    assert (first[0]["x-gateway-model"], second[0]["x-gateway-model"]) == ("big:70b", "small:8b")
    assert first[1] == second[1] == ["big:70b", "small:8b", "gpt-4o"]
    assert (first[2], second[2]) == ("big:70b", "small:8b")
    assert shown.document["id"] == "gpt-4o"
    assert paths == [['aliases."gpt-4o"'], ['aliases."gpt-4o"', 'aliases."o*"'], ["aliases"]]


async def test_a_stream_keeps_its_alias(autojump_clock: MockClock) -> None:
    """A stream that has begun ends as it began, though its alias is gone."""
    async with reloadable(models=MODELS) as gateway:
        await gateway.reload(aliased(("gpt-4o", "big:70b")))
        replies: list[Reply] = []

        async def ask() -> None:
            replies.append(await chat(gateway))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(3)
            await gateway.reload(aliased())
            after = await chat(gateway)

    assert (replies[0].is_complete, replies[0].text) == (True, "0123456789")
    assert {line["model"] for line in replies[0].lines} == {"gpt-4o"}
    assert after.status == 403
