"""Speak the admin API of a gateway: documents, pages, lines; and its errors as control's own.

What comes back is foreign until a command has checked it: here only that it is a document.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote, urlencode

import attrs

from ollama_gateway.cli.admin import (
    ANSWER_SECONDS,
    AdminAnswer,
    NoAnswer,
    ask,
    ask_lines,
    unanswered,
    unexpected,
)
from ollama_gateway.cli.lines import exit_with
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.control.errors import (
    AlreadyThere,
    ChangedMeanwhile,
    ControlError,
    NoSuchThing,
    Problem,
    WrongInput,
)
from ollama_gateway.printable import printable

Document = dict[str, Any]

PREFIX: Final = "/admin/v1"
MAX_PAGE: Final = 1000
"""Items of a page."""
MAX_BYTES: Final = 2**24
"""The largest answer: a page of keys, each with long lists of models."""
MAX_PAGES: Final = 10_000
"""Pages of a list: a server that never ends it is no gateway."""
MAX_DETAIL: Final = 1000
"""Characters of an error that are shown."""
MAX_PROBLEMS: Final = 20
READ_SECONDS: Final = 60.0
"""Time for what reads many records."""
_KINDS: Final[dict[int, type[ControlError]]] = {
    HTTPStatus.NOT_FOUND: NoSuchThing,
    HTTPStatus.CONFLICT: AlreadyThere,
    HTTPStatus.PRECONDITION_FAILED: ChangedMeanwhile,
}


def path_of(*parts: str) -> str:
    """Return the path below the prefix of these parts, quoted."""
    return "".join(f"/{quote(part, safe='')}" for part in parts)


@attrs.frozen
class AdminClient:
    """Asks one gateway; every method raises ControlError and NoAnswer."""

    address: AdminAddress

    @contextmanager
    def ending(self, command: str) -> Iterator[None]:
        """End the command with a line if the gateway refuses in the block, or does not answer.

        Exit code 2 is for values that it does not take, 1 for all else.
        """
        try:
            yield
        except NoAnswer as error:
            exit_with(1, f"{command}: {unanswered(self.address, error)}")
        except WrongInput as error:
            exit_with(2, *(f"{command}: {_shown(one)}" for one in error.problems))
        except ControlError as error:
            exit_with(1, f"{command}: {error}")

    def get(self, path: str, seconds: float = ANSWER_SECONDS, **query: object) -> Document:
        """Return the document at a path; parameters that are None are left out."""
        target = _target(path, query)
        return _good(ask(self.address, target, seconds=seconds, most=MAX_BYTES))

    def change(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        seconds: float = ANSWER_SECONDS,
        **query: object,
    ) -> Document:
        """Change something, and return the document of the answer; empty if it has none."""
        target = _target(path, query)
        answer = ask(
            self.address,
            target,
            method=method,
            document=document,
            seconds=seconds,
            most=MAX_BYTES,
        )
        return _good(answer)

    def pages(
        self, path: str, seconds: float = ANSWER_SECONDS, **query: object
    ) -> Iterator[Document]:
        """Yield the pages of a list, each when it is wanted."""
        cursor: str | None = None
        query = {"limit": MAX_PAGE, **query}
        for _ in range(MAX_PAGES):
            page = self.get(path, seconds, **query, cursor=cursor)
            match page:
                case {"items": [*items], "next": str() | None as following} if all(
                    isinstance(item, dict) for item in items
                ):
                    yield page
                case _:
                    raise NoAnswer("its answer is not one of the admin API")
            if following is None:
                return
            if following == cursor:
                break
            cursor = following
        raise NoAnswer("its list has no end")

    def items(
        self, path: str, seconds: float = ANSWER_SECONDS, **query: object
    ) -> Iterator[Document]:
        """Yield the items of a list, page by page."""
        for page in self.pages(path, seconds, **query):
            yield from page["items"]

    def lines(self, method: str, path: str, document: object = None) -> Iterator[Document]:
        """Yield the documents of an answer that comes in lines, each as it comes."""
        target = _target(path, {})
        for answer in ask_lines(self.address, target, method=method, document=document):
            yield _good(answer)


def _shown(problem: Problem) -> str:
    where = problem.where.lstrip("/")
    return f"{where}: {problem.detail}" if where else problem.detail


def _target(path: str, query: dict[str, Any]) -> str:
    given = {name: _text(value) for name, value in query.items() if value is not None}
    return f"{PREFIX}{path}{'?' if given else ''}{urlencode(given, errors='surrogateescape')}"


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _good(answer: AdminAnswer) -> Document:
    """Return the document of a good answer; raise the error that another one tells of."""
    if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
        return answer.value
    detail = answer.value.get("detail")
    if not isinstance(detail, str):
        if answer.status == HTTPStatus.NOT_FOUND:
            raise NoAnswer("it has no admin API: it is older, or no admin listener")
        raise unexpected(answer)
    line = printable(detail[:MAX_DETAIL])
    if answer.status == HTTPStatus.UNPROCESSABLE_ENTITY:
        raise WrongInput(_problems(answer.value) or [Problem("", line)])
    error = unexpected(answer)
    if str(error):
        raise error
    raise _KINDS.get(answer.status, ControlError)(line)


def _problems(document: Document) -> list[Problem]:
    found = document.get("problems")
    if not isinstance(found, list):
        return []
    return [
        Problem(printable(where[:MAX_DETAIL]), printable(why[:MAX_DETAIL]))
        for problem in found[:MAX_PROBLEMS]
        if isinstance(problem, dict)
        and isinstance(where := problem.get("where"), str)
        and isinstance(why := problem.get("detail"), str)
    ]
