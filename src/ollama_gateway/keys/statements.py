"""The statements that each store of keys brings; `sql.py` has the rules that use them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime

from ollama_gateway.keys.key import APIKey
from ollama_gateway.keys.store import KeySecret


class KeyStatements(ABC):
    """Statements without decisions, in SQL of one kind."""

    @abstractmethod
    def check(self) -> None:
        """Check that the store has this version's schema."""

    @abstractmethod
    def close(self) -> None:
        """Close the store; later use raises `StoreError`."""

    @abstractmethod
    def _reading(self) -> AbstractContextManager[None]:
        """Enter a read in which the statements below may be used."""

    @abstractmethod
    def _change(self) -> AbstractContextManager[None]:
        """Enter a serialised change: committed at its end, rolled back if it raises."""

    @abstractmethod
    def _all(self) -> tuple[APIKey, ...]:
        """Return all keys, oldest first."""

    @abstractmethod
    def _by_id(self, key_id: str) -> tuple[APIKey, ...]:
        """Return the key of an id, or none."""

    @abstractmethod
    def _by_name(self, name: str) -> tuple[APIKey, ...]:
        """Return all keys of a name, revoked ones too."""

    @abstractmethod
    def _find(self, digests: Sequence[str], now: datetime) -> Iterator[tuple[str, APIKey]]:
        """Yield those of these digests that have not expired, with their keys."""

    @abstractmethod
    def _secrets(self) -> Iterator[KeySecret]:
        """Yield all digests."""

    @abstractmethod
    def _has_secret(self, digest: str) -> bool:
        """Return whether the store has a digest, expired or not."""

    @abstractmethod
    def _insert(self, key: APIKey) -> None:
        """Insert a key."""

    @abstractmethod
    def _write(self, key: APIKey) -> None:
        """Overwrite the key of this id."""

    @abstractmethod
    def _delete(self, key: APIKey) -> None:
        """Delete the key of this id, and its digests."""

    @abstractmethod
    def _insert_secret(self, secret: KeySecret) -> None:
        """Insert a digest."""

    @abstractmethod
    def _end_secrets(self, key: APIKey, when: datetime) -> None:
        """Let all texts of a key expire by then."""

    @abstractmethod
    def _forget_secrets(self, now: datetime) -> None:
        """Delete the expired digests."""
