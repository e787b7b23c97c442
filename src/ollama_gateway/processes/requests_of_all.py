"""The requests in flight of all processes: the parent asks each, and cancels at whichever has one.

A process that does not answer in time is named in the answer; if it may be the one that has a
request, the answer is a 503.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import anyio
import attrs

from ollama_gateway.control import requests
from ollama_gateway.control.errors import NoSuchThing, WrongInput
from ollama_gateway.errors import Unavailable
from ollama_gateway.processes.admin import Roster, RosterMember
from ollama_gateway.processes.passing import PassedAPI
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin_api.operation import AdminCall, AdminReply, Operation
from ollama_gateway.server.admin_api.request_operations import SharedPages, key_in, operations

PATH = "/requests"
Answers = Mapping[int, tuple[int, Any]]
"""Status and document, by the number of the process; without those that do not answer."""


@attrs.frozen
class RequestsOfAll:
    """Operations on the requests of all processes."""

    roster: Roster
    pages: SharedPages = attrs.field(factory=SharedPages)

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        return operations(self._list, self._get, self._cancel, self._cancel_all)

    async def _list(self, call: AdminCall) -> AdminReply:
        async def make() -> bytes:
            answers, unanswered = await self._ask("GET", f"{PATH}?{urlencode(call.query)}", call)
            pages = {number: _good(answer) for number, answer in answers.items()}
            merged = [
                item | {"process": number} for number in pages for item in pages[number]["items"]
            ]
            merged.sort(key=lambda item: (item["started_at"], item["id"]))
            has_more = len(merged) > call.limit or any(page["next"] for page in pages.values())
            items = merged[: call.limit]
            following = requests.cursor_after(items[-1]) if has_more and items else None
            page = {"items": items, "next": following, "unanswered": unanswered}
            return json.dumps(page).encode()

        asked = tuple(sorted(call.query.items()))
        return AdminReply(encoded=await self.pages.get(asked, make))

    async def _get(self, call: AdminCall) -> AdminReply:
        return await self._one("GET", call)

    async def _cancel(self, call: AdminCall) -> AdminReply:
        reply = await self._one("DELETE", call)
        self.pages.clear()
        return reply

    async def _one(self, method: str, call: AdminCall) -> AdminReply:
        """Return what the process says that has the request."""
        target = f"{PATH}/{quote(call.path['id'], safe='')}"
        answers, unanswered = await self._ask(method, target, call)
        for number, (status, document) in answers.items():
            if status != HTTPStatus.NOT_FOUND:
                return AdminReply(_good((status, document)) | {"process": number})
        if unanswered:
            names = ", ".join(map(str, unanswered))
            raise _unavailable(f"process {names} does not answer, and may have it: try again")
        raise NoSuchThing(requests.NOT_RUNNING)

    async def _cancel_all(self, call: AdminCall) -> AdminReply:
        key_id = key_in(call)
        answers, unanswered = await self._ask("DELETE", f"{PATH}?{urlencode(call.query)}", call)
        self.pages.clear()
        ids = [one for answer in answers.values() for one in _good(answer)["cancelled"]]
        found = {"key_id": key_id, "cancelled": ids, "unanswered": unanswered}
        return AdminReply(found)

    async def _ask(self, method: str, target: str, call: AdminCall) -> tuple[Answers, list[int]]:
        """Ask all at once; return the answers, and the numbers of those that give none."""
        found: dict[int, tuple[int, Any]] = {}
        members = self.roster.serving

        async def ask(member: RosterMember) -> None:
            passed = PassedAPI(lambda: [member.path])
            for answer in await passed.ask_all(method, target, call.actor, ""):
                found[member.number] = answer

        async with anyio.create_task_group() as tasks:
            for member in members:
                tasks.start_soon(ask, member)
        silent = [member.number for member in members if member.number not in found]
        if members and not found:
            raise _unavailable("no process answers, try again")
        return dict(sorted(found.items())), silent


def _good(answer: tuple[int, Any]) -> dict[str, Any]:
    """Return the document of a process; raises its error again."""
    status, document = answer
    if status == HTTPStatus.OK:
        found: dict[str, Any] = document
        return found
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:  # the parent has checked all else
        raise WrongInput([requests.NO_CURSOR])
    raise _unavailable(str(document.get("detail", "a process cannot do it")))


def _unavailable(message: str) -> Unavailable:
    return Unavailable(message, reason=Reason.NO_PROCESS, retry_after=1)
