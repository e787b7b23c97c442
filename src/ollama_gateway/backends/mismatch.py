"""Digest mismatches: one name that means different models on different backends.

They arise when `:latest` is pulled on one machine and not on another. Clients see the name once
(by the rule of `catalog.py`), but answers depend on the backend. A mismatch is logged when it
begins, when it changes and when it ends, not at each poll.
"""

from __future__ import annotations

from ollama_gateway.backends.catalog import Catalog, short_digest
from ollama_gateway.log import get_logger

log = get_logger("backends")


def log_digest_mismatches(before: Catalog, after: Catalog) -> None:
    """Log the mismatches that began, changed or ended between two catalogs."""
    for key, digests in after.digest_mismatches.items():
        if before.digest_mismatches.get(key) != digests:
            shown = {backend: short_digest(digest) for backend, digest in digests.items()}
            log.warning("digests differ between backends", model=key, digests=shown)
    for key in before.digest_mismatches.keys() - after.digest_mismatches.keys():
        log.info("digests differ no more", model=key)
