"""Models that exact aliases hide: no request reaches them by their own name."""

from __future__ import annotations

from collections.abc import Collection

from ollama_gateway.backends.catalog import Catalog
from ollama_gateway.log import get_logger

log = get_logger("backends")


def log_hidden_models(before: Catalog, after: Catalog, hidden: Collection[str]) -> None:
    """Log each model that an alias began to hide between two catalogs, by model key."""
    for key in hidden:
        if key in after.models and key not in before.models:
            log.warning("an alias hides a model", model=after.models[key]["name"])
