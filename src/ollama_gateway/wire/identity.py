"""Tell which conversation a request belongs to, without keeping or changing any of its text.

A conversation is a request's key, its model, and one of three, the first that is there:

1. a header in which clients name their conversation (`HEADERS`);
2. a field that may be the same for a whole team (`prompt_cache_key`, `metadata.user_id`), together
   with the first user message;
3. the system texts and the first user message.

The texts are hashed as they were parsed: nothing is serialised, and neither whitespace nor escapes
make another conversation. Of a long text its size and the first `EXCERPT` bytes count, which bounds
the cost. The client's address never counts: many clients share one, and one client has several.

The key's id is part of every hash, so no hash of one key is a hash of another.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Literal

import attrs

from ollama_gateway.wire.beginnings import beginnings
from ollama_gateway.wire.body import LongText, utf8
from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.large import RequestBody, Steps
from ollama_gateway.wire.prompt_head import HEAD_FIELDS, head_of

HEADERS: Final = (
    b"x-gateway-session",
    b"x-claude-code-session-id",
    b"session-id",  # Codex; older versions write an underscore
    b"session_id",
    b"x-session-affinity",  # opencode, which sends the next one too
    b"x-session-id",
    b"x-openwebui-chat-id",
    b"x-litellm-session-id",
)
"""Headers that name a conversation; the first that is there counts."""
BACKGROUND: Final = b"x-openwebui-task"
"""Marks a request beside a conversation, such as one for a title."""
MAX_NAME: Final = 1024
"""Bytes or characters of a header or a field that names a conversation or an answer."""
SIZE: Final = 16
"""Bytes of a hash."""
EXCERPT: Final = 4 * 1024
"""Bytes of a text that are hashed, beside its size."""
MIN_COARSE: Final = 8 * 1024
"""Characters of system texts and tools from which there is a coarse identity."""
MAX_TOOLS: Final = 256
FIELDS: Final = HEAD_FIELDS | {"tools", "metadata", "prompt_cache_key", "previous_response_id"}
"""The fields of a body that are read."""

_READ_HEADERS: Final = frozenset({*HEADERS, BACKGROUND})
_NO_NAMES: Final = frozenset({b"", b"none", b"null"})
_TEMPLATE: Final = b"{{"
"""Versions of Open WebUI that do not know a placeholder send it as it is, in every request."""

Source = Literal["header", "hint", "content"]


@attrs.frozen
class ConversationIdentity:
    """A request's conversation, as hashes of `SIZE` bytes."""

    id: bytes
    """The same for all turns of a conversation with one model."""
    source: Source
    """What names it: a header, a field that may be a team's, or its content alone."""
    head: bytes
    """Of the head of the prompt. An id that comes with several heads names no single conversation.
    """
    coarse: bytes | None = None
    """Of the system texts and the tools; None if they are short."""
    previous_response_id: str | None = None
    """The answer that the request continues; the backend may hold the turns before it."""
    is_background: bool = False
    """Whether the request stands beside a conversation."""


def readable(body: RequestBody, fields: dict[str, object]) -> Steps[dict[str, object]]:
    """Return the fields that `conversation_of` reads; of a large body, their beginnings.

    Args:
        body: the accepted body, as the client sent it.
        fields: its fields, as `fields_of` has read them.

    """
    if isinstance(body, bytes):
        return fields
    return (yield from beginnings(body, FIELDS))


def conversation_of(
    key_id: str, model: str, headers: Headers, fields: dict[str, object]
) -> ConversationIdentity | None:
    """Return the conversation of a request; None if it has no text and nothing names one.

    A body of 8 KiB takes 10 to 13 us.

    Args:
        key_id: the id of its key.
        model: the model's canonical name.
        headers: its headers, names in lower case.
        fields: as `readable` returns them.

    """
    named = _named(headers)
    session = next((named[name] for name in HEADERS if name in named), None)
    hint, previous = _hint(fields), _short(fields.get("previous_response_id"))
    head = head_of(fields)
    if not (session or hint or previous or head.system or head.first):
        return None
    owner = utf8(f"{len(key_id)} {key_id} {len(model)} {model} ")
    system, first = _hash(owner, head.system), _hash(owner, head.first)
    source: Source = "content"
    names = system + first
    if session is not None:
        source, names = "header", session
    elif hint is not None:
        source, names = "hint", first + utf8(hint)
    return ConversationIdentity(
        _joined(owner, source.encode(), names),
        source,
        head=_joined(owner, b"head", system + first),
        coarse=_coarse(owner, head.system, system, _described(fields.get("tools"))),
        previous_response_id=previous,
        is_background=BACKGROUND in named,
    )


def _named(headers: Headers) -> dict[bytes, bytes]:
    """Return the first value of each header that is read and names something."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ_HEADERS and not (
            value.lower() in _NO_NAMES or value.startswith(_TEMPLATE)
        ):
            found.setdefault(name, value[:MAX_NAME])
    return found


def _hint(fields: dict[str, object]) -> str | None:
    metadata = fields.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    return _short(fields.get("prompt_cache_key")) or _short(user)


def _short(value: object) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= MAX_NAME else None


def _described(tools: object) -> list[str]:
    """Return the names and descriptions of tools; their schemas would cost more than they tell."""
    found: list[str] = []
    for tool in tools[:MAX_TOOLS] if isinstance(tools, list) else ():
        if isinstance(tool, dict):
            inner = tool.get("function")
            described = inner if isinstance(inner, dict) else tool
            values = (described.get("name"), described.get("description"))
            found += [value for value in values if isinstance(value, str)]
    return found


def _coarse(owner: bytes, texts: list[str], system: bytes, tools: list[str]) -> bytes | None:
    if sum(map(len, texts)) + sum(map(len, tools)) < MIN_COARSE:
        return None
    return _joined(owner, b"coarse", system + _hash(owner, tools))


def _hash(owner: bytes, texts: list[str]) -> bytes:
    """Return a hash of the sizes and excerpts of texts; it is fed other bytes for other ones."""
    pieces = [owner]
    for text in texts:
        whole = utf8(text)
        size = text.size if isinstance(text, LongText) else len(whole)
        begun = whole[:EXCERPT]
        pieces += (b"%d %d " % (size, len(begun)), begun)
    return blake2b(b"".join(pieces), digest_size=SIZE).digest()


def _joined(owner: bytes, kind: bytes, names: bytes) -> bytes:
    return blake2b(b"%b%b %b" % (owner, kind, names), digest_size=SIZE).digest()
