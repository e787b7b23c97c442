"""Find conversations whose head changes in each turn, so that no prefix cache can serve them.

Some clients write a counter or a checksum into the system text, as Claude Code does with its
billing header. A model then reads the whole prompt anew in each turn. The gateway changes no text;
it says so in the log, once a key and day, and in `gatewayctl explain --key`.

Only hashes of blocks are kept, of the last conversations that a header or a field has named. Two
heads that share no block are two conversations, such as an agent's and its helper's. A head counts
as changed where it differs in some blocks and is the same in most.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

import attrs

from ollama_gateway.keys.key import Principal
from ollama_gateway.log import get_logger
from ollama_gateway.wire.identity import ConversationIdentity
from ollama_gateway.wire.prompt_head import block_hashes, head_of

MAX_WATCHED: Final = 1000
"""Conversations."""
MIN_BLOCKS: Final = 4
"""Blocks of the shortest head that is watched; a shorter one is soon read."""
CHANGES: Final = 3
"""Turns in a row with a changed head."""
ADVICE: Final = (
    "the head of a conversation changes in each turn, so its prompt is read anew each time; "
    "for Claude Code set CLAUDE_CODE_ATTRIBUTION_HEADER=0"
)

log = get_logger("affinity")


def _today() -> date:
    return datetime.now(UTC).date()


@attrs.define
class _Watched:
    head: bytes
    blocks: tuple[int, ...]
    changes: int = 0


@attrs.define(eq=False)
class ChangingHeads:
    """Watches the heads of conversations."""

    today: Callable[[], date] = _today
    """The day in UTC."""
    _watched: OrderedDict[bytes, _Watched] = attrs.field(factory=OrderedDict, init=False)
    _advised: dict[str, date] = attrs.field(factory=dict, init=False)
    """By the id of a key, the day on which it was last advised."""

    def note(
        self,
        principal: Principal,
        conversation: ConversationIdentity,
        fields: dict[str, object],
    ) -> None:
        """Note one turn; `fields` are those from which the conversation was read."""
        if conversation.source == "content" or conversation.is_background:
            return
        known = self._watched.get(conversation.id)
        if known is not None and known.head == conversation.head:
            known.changes = 0
            self._watched.move_to_end(conversation.id)
            return
        blocks = block_hashes(head_of(fields))
        is_changed = known is not None and _is_changed(known.blocks, blocks)
        changes = known.changes + 1 if known is not None and is_changed else 0
        self._watched[conversation.id] = _Watched(conversation.head, blocks, changes)
        self._watched.move_to_end(conversation.id)
        if len(self._watched) > MAX_WATCHED:
            self._watched.popitem(last=False)
        if changes >= CHANGES and not self.is_advised(principal.key_id):
            self._advised = {key: day for key, day in self._advised.items() if day == self.today()}
            self._advised[principal.key_id] = self.today()
            log.warning(ADVICE, key_id=principal.key_id, key_name=principal.key_name)

    def is_advised(self, key_id: str) -> bool:
        """Return whether the key was advised today."""
        return self._advised.get(key_id) == self.today()


def _is_changed(before: tuple[int, ...], now: tuple[int, ...]) -> bool:
    number = min(len(before), len(now))
    same = sum(one == other for one, other in zip(before, now, strict=False))
    return number >= MIN_BLOCKS and number / 2 <= same < number
