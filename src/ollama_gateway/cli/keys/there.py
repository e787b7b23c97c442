"""The keys of a gateway that is asked by HTTP.

Every document is checked, as what answers need not be a gateway; fields that this version does not
know are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import attrs

from ollama_gateway.cli.admin import NoAnswer
from ollama_gateway.cli.keys.port import Given, KeyPair
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.cli.remote.client import AdminClient, path_of
from ollama_gateway.control.errors import ControlError, NoSuchThing
from ollama_gateway.control.key_shapes import KEY, SECRET
from ollama_gateway.control.keys import KeyDocument
from ollama_gateway.control.shapes import Fields
from ollama_gateway.keys.key import PREFIX, KeyRefused, NoSuchKey
from ollama_gateway.keys.store import ImportedKey
from ollama_gateway.models.aliases import models_of
from ollama_gateway.suggestions import did_you_mean

CHANGE_SECONDS: Final = 60.0
"""Time for a change of many keys, each of which is recorded first."""
_PATTERNS: Final = re.compile(r"([*?[])")
"""Characters that stand for others in a pattern of names."""
_LINE: Final = re.compile(r"^line (\d{1,9})\b", re.MULTILINE)


@attrs.frozen
class KeysThere:
    """Lists and changes them with the rights of a token."""

    client: AdminClient

    @property
    def address(self) -> AdminAddress:
        """Where the gateway is asked."""
        return self.client.address

    def next_steps(self, text: str) -> Sequence[str]:  # noqa: ARG002 - as here
        """Return nothing: the address for clients is not known here."""
        return ()

    def list(self) -> Sequence[KeyDocument]:
        """Return all keys."""
        return [_checked(KEY, one) for one in self.client.items("/keys")]

    def get(self, wanted: str) -> KeyDocument:
        """Return a key, by its id, or else by its name."""
        if wanted.startswith(PREFIX):  # it would stand in logs on the way
            raise NoSuchKey("no key with this text: `gatewayctl keys list` shows them")
        try:
            return _checked(KEY, self.client.get(path_of("keys", wanted)))
        except NoSuchThing:
            return self._named(wanted)

    def create(self, given: Given) -> KeyDocument:
        """Make a key."""
        return _checked(SECRET, self.client.change("POST", "/keys", dict(given)))

    def update(self, wanted: str, given: Given) -> KeyDocument:
        """Change a key."""
        path = path_of("keys", self.get(wanted)["id"])
        return _checked(KEY, self.client.change("PATCH", path, dict(given)))

    def update_matching(self, match: str, given: Given, *, dry_run: bool) -> Sequence[KeyPair]:
        """Change all keys whose names match."""
        asked = {"match": match, "changes": dict(given), "dry_run": dry_run}
        answer = self.client.change("POST", "/keys/update", asked, seconds=CHANGE_SECONDS)
        match answer:
            case {"changed": [*pairs]}:
                return [_pair(pair) for pair in pairs]
        raise _no_key()

    def rotate(self, wanted: str, grace_s: float) -> KeyDocument:
        """Give a key a new text."""
        path = path_of("keys", self.get(wanted)["id"], "rotate")
        return _checked(SECRET, self.client.change("POST", path, {"grace_s": grace_s}))

    def revoke(self, wanted: str) -> KeyDocument:
        """Revoke a key."""
        path = path_of("keys", self.get(wanted)["id"], "revoke")
        return _checked(KEY, self.client.change("POST", path))

    def delete(self, wanted: str) -> KeyDocument:
        """Delete a key, and return it as it was."""
        found = self.get(wanted)
        self.client.change("DELETE", path_of("keys", found["id"]))
        return found

    def add(self, entries: Sequence[ImportedKey]) -> Sequence[KeyDocument]:
        """Add keys made elsewhere; the gateway takes 10,000 of them, and 1 MiB."""
        asked = {"keys": [_imported(entry) for entry in entries]}
        try:
            answer = self.client.change("POST", "/keys/import", asked, seconds=CHANGE_SECONDS)
        except ControlError as error:  # it counts keys, and people look for lines
            raise KeyRefused(_in_lines(str(error), entries)) from None
        match answer:
            case {"items": [*items]}:
                return [_checked(KEY, item) for item in items]
        raise _no_key()

    def _named(self, wanted: str) -> KeyDocument:
        """Return the key of this name, as a store finds it. Raises KeyRefused."""
        pattern = _PATTERNS.sub(r"[\1]", wanted)
        found = [_checked(KEY, one) for one in self.client.items("/keys", name=pattern)]
        found = [key for key in found if key["name"] == wanted]
        best = [key for key in found if key["revoked_at"] is None] or found
        if not best:
            near = did_you_mean(wanted, (key["name"] for key in self.list()))
            raise NoSuchKey(f"no key {wanted[:100]!r}{near}: `gatewayctl keys list` shows them")
        if len(best) > 1:
            ids = ", ".join(key["id"] for key in best)
            raise KeyRefused(f"several keys were named {wanted!r}: give one id ({ids})")
        return best[0]


def _checked(shape: Fields, value: object) -> KeyDocument:
    """Return the fields of a document that this version knows; raises NoAnswer."""
    if not isinstance(value, dict):
        raise _no_key()
    known = {name: one for name, one in value.items() if name in shape.fields}
    if any(shape.problems(known)):
        raise _no_key()
    return known


def _pair(value: object) -> KeyPair:
    match value:
        case {"before": before, "after": after}:
            return {"before": _checked(KEY, before), "after": _checked(KEY, after)}
    raise _no_key()


def _no_key() -> NoAnswer:
    return NoAnswer("its answer is not one of the admin API")


def _in_lines(message: str, entries: Sequence[ImportedKey]) -> str:
    """Return a message as lines again, with the numbers of the file's lines."""
    if message.startswith('"'):  # as `printable` shows several lines
        with suppress(ValueError):
            message = str(json.loads(message))
    return _LINE.sub(lambda found: _line(found, entries), message)


def _line(found: re.Match[str], entries: Sequence[ImportedKey]) -> str:
    number = int(found[1])
    return f"line {entries[number - 1].line}" if 0 < number <= len(entries) else found[0]


def _imported(entry: ImportedKey) -> Mapping[str, Any]:
    """Return what `POST /keys/import` takes for a key."""
    rights = entry.rights
    document: dict[str, Any] = {"name": entry.name, "key": entry.text}
    if "models" in rights:
        document["models"] = list(rights["models"])
    if "endpoints" in rights:
        document["endpoints"] = sorted(rights["endpoints"])
    if "limits" in rights:
        document["limits"] = attrs.asdict(rights["limits"])
    if "user_header" in rights:
        document["user_header"] = rights["user_header"]
    if "aliases" in rights:
        document["aliases"] = models_of(rights["aliases"])
    if "expires_at" in rights:
        expires = rights["expires_at"]
        document["expires_at"] = None if expires is None else expires.isoformat()
    return document
