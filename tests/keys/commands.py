"""`gatewayctl keys ...`, run in this process."""

from __future__ import annotations

from functools import partial

from tests.support import commands

run = partial(commands.run, "keys")
ran = partial(commands.ran, "keys")
as_json = partial(commands.as_json, "keys")
failed = partial(commands.failed, "keys")
