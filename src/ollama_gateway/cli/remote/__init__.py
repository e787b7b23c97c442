"""`gatewayctl` from another machine: which gateway a command is for, and how that one is asked."""

from __future__ import annotations

from typing import Final

VARIABLE: Final = "GATEWAYCTL_CONTEXT"
"""Names the context to use; on the command line `--context`, `--server` and `--config` win."""
