"""How long tests wait for one step, so that none depends on how fast the machine is."""

from __future__ import annotations

from typing import Final

PATIENCE: Final = 120.0
"""Seconds for one step: a process starts, an answer comes, a thread arrives. Only what hangs takes
longer, whatever else the machine does."""
HANGS: Final = 3600.0
"""Seconds for a whole story, whose steps have their own: nothing that works takes as long."""
