"""The kinds of files that a backup holds, in the order in which they are copied.

The order keeps the copies consistent with each other, whatever gateways and commands do meanwhile:

1. Journals. A request that ends later is still open in the copy, so the next start records it as
   killed; none is recorded twice.
2. Usage journals. A record that was copied has its tokens here already, so no budget comes back
   with fewer tokens than its records show.
3. Keys. One that is revoked before the end stays revoked.
4. Paused backends, which depend on nothing.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from ollama_gateway.backends.pausing import PAUSED_FILE
from ollama_gateway.keys.location import KEYS_FILE
from ollama_gateway.keys.sqlite import KEYS_FORMAT
from ollama_gateway.ledger.journal import JOURNAL_FORMAT
from ollama_gateway.ledger.ownership import JOURNAL_PATTERN
from ollama_gateway.limits.usage_file import USAGE_FORMAT
from ollama_gateway.limits.usage_locks import USAGE_PATTERN
from ollama_gateway.storage.sqlite import FileFormat


class BackupError(Exception):
    """A backup cannot be made or restored; one line for the operator."""


@attrs.frozen
class Kind:
    """One kind of file in a backup."""

    pattern: str
    """Of its names in the directory."""
    names: re.Pattern[str]
    """The names that a backup may have: of at most 100 characters, and none leads elsewhere."""
    format: FileFormat | None = None
    """Its format, if it is a SQLite file."""

    def has(self, name: str) -> bool:
        """Whether a file of a backup is of this kind."""
        return self.names.fullmatch(name) is not None


JOURNALS: Final = Kind(
    JOURNAL_PATTERN, re.compile(r"journal-[\w.-]{1,80}\.db", re.ASCII), JOURNAL_FORMAT
)
USAGE: Final = Kind(USAGE_PATTERN, re.compile(r"budgets-[\w.-]{1,80}\.db", re.ASCII), USAGE_FORMAT)
KEYS: Final = Kind(KEYS_FILE, re.compile(re.escape(KEYS_FILE)), KEYS_FORMAT)
PAUSES: Final = Kind(PAUSED_FILE, re.compile(re.escape(PAUSED_FILE)))
KINDS: Final = (JOURNALS, USAGE, KEYS, PAUSES)
"""In the order of copying."""


def kind_of(name: str) -> Kind | None:
    """Return the kind of the file that has this name in a backup; None if there is none."""
    return next((kind for kind in KINDS if kind.has(name)), None)
