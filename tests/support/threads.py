"""Several threads that do something at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from tests.support.patience import PATIENCE


def at_once(uses: Iterable[Callable[[], object]], refusal: type[Exception]) -> list[object]:
    """Start each use in a thread, all at the same moment; return its result or its refusal."""
    uses = list(uses)
    ready = threading.Barrier(len(uses))
    outcomes: list[object] = []

    def run(use: Callable[[], object]) -> None:
        ready.wait(timeout=PATIENCE)
        try:
            outcomes.append(use())
        except refusal as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(use,)) for use in uses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == len(uses)
    return outcomes
