"""What a request asks of the load of its model, and how that is changed in its body.

Some options make Ollama load a model anew when they differ from the last ones (`needsReload` in its
server/sched.go). Its own API has them in `options`, whose keys count only as written, and `shift`
beside it. On `/v1` Ollama reads none of them.
"""

from __future__ import annotations

import math
from typing import Final

import attrs

from ollama_gateway.wire.body import go_fold, lookup
from ollama_gateway.wire.keep_alive import FIELD as KEEP_ALIVE
from ollama_gateway.wire.keep_alive import keep_alive_of, keep_alive_text
from ollama_gateway.wire.large import RequestBody
from ollama_gateway.wire.splicing import (
    with_change,
    with_member,
    with_new_field,
    with_value,
    without_members,
)

LoadOptions = tuple[tuple[str, float], ...]
"""The options that a request sets, by name; () leaves all to the server's defaults."""

OPTIONS: Final = "options"
NUM_CTX: Final = "num_ctx"
SHIFT: Final = "shift"
_QUOTED: Final = b'"options"'
RELOADING: Final = (
    NUM_CTX,
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
    # of older versions (api/types.go, Runner and Options)
    "low_vram",
    "f16_kv",
    "logits_all",
    "vocab_only",
    "use_mlock",
    "numa",
)


@attrs.frozen
class AskedLoad:
    """What a request asks of the load of its model."""

    options: LoadOptions = ()
    """The load options whose values Ollama may take: numbers and booleans."""
    present: tuple[str, ...] = ()
    """The names of those that its body has, whatever their values; `num_ctx` is none of them."""
    num_ctx: int | None = None
    """The context in tokens; None if it leaves that to the server."""
    keep_alive: float | None = None
    """Seconds that the model shall stay loaded, infinite for ever; None if it does not say."""
    has_options: bool = attrs.field(default=True, eq=False)
    """Whether the client's body has the field `options`, even if null."""
    is_readable: bool = True
    """Whether Ollama reads its options and does not refuse them."""


def asked_load(document: dict[str, object]) -> AskedLoad:
    """Return what the body asks for, as Ollama reads it."""
    options = lookup(document, OPTIONS)
    given = options if isinstance(options, dict) else {}
    named = {name: given[name] for name in RELOADING if name in given}
    if (shift := lookup(document, SHIFT)) is not None:
        named[SHIFT] = shift
    context = given.get(NUM_CTX)
    is_number = isinstance(context, int | float) and not isinstance(context, bool)
    return AskedLoad(
        options=tuple([(n, value) for n, value in named.items() if isinstance(value, int | float)]),
        present=tuple([name for name in named if name != NUM_CTX]),
        num_ctx=math.floor(context) if is_number else None,  # type: ignore[arg-type]  # a number
        keep_alive=keep_alive_of(document),
        has_options=options is not None or OPTIONS in map(go_fold, document),
        is_readable=isinstance(options, dict | None) and (context is None or is_number),
    )


@attrs.frozen
class LoadChange:
    """Changes of a body's load options and its `keep_alive`."""

    dropped: tuple[str, ...] = ()
    """Load options that are taken out."""
    num_ctx: int | None = None
    """The context that is written; None leaves the client's."""
    keep_alive: float | None = None
    """Seconds that are written; 0 takes the client's out, None leaves it."""
    has_options: bool = attrs.field(default=True, eq=False)
    """Whether the client's body has `options`; where it has none, it need not be read again."""

    @property
    def names(self) -> tuple[str, ...]:
        """The fields and options that it changes."""
        context = (NUM_CTX,) if self.num_ctx is not None else ()
        stay = (KEEP_ALIVE,) if self.keep_alive is not None else ()
        return (*context, *stay, *self.dropped)

    def applied(self, body: RequestBody) -> RequestBody:
        """Return the changed body; all other bytes stay as they are."""
        if self.num_ctx is not None or set(self.dropped) - {SHIFT}:
            # The gateway itself may have added some, to bound the answer.
            if isinstance(body, bytes) and not self.has_options and _QUOTED not in body:
                body = with_new_field(body, OPTIONS, self._options("null"))
            else:
                body = with_change(body, OPTIONS, self._options)
        if SHIFT in self.dropped:
            body = with_value(body, (SHIFT,), "null")
        if self.keep_alive is not None:
            value = keep_alive_text(self.keep_alive) if self.keep_alive else "null"
            body = with_value(body, (KEEP_ALIVE,), value)
        return body

    def _options(self, text: str) -> str:
        if self.dropped and text[0] == "{":
            text = without_members(text, self.dropped)
        return text if self.num_ctx is None else with_member(text, NUM_CTX, str(self.num_ctx))
