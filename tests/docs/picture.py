"""Draw the README's picture: the real output of `gatewayctl demo` (`tox -e picture`)."""

from __future__ import annotations

import io
import re
from functools import partial

import trio
from rich.console import Console

from ollama_gateway import log
from ollama_gateway.cli.demo_run import run_demo
from tests.docs.blocks import ROOT

PICTURE = ROOT / "docs" / "demo.svg"
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Rich's template loads fonts from the network, which a picture in a page cannot."""

if __name__ == "__main__":
    log.configure("error", "text")
    console = Console(
        highlight=False, record=True, width=72, file=io.StringIO(), force_terminal=True
    )
    trio.run(partial(run_demo, console, stay=False))
    PICTURE.write_text(FONTS.sub("", console.export_svg(title="gatewayctl demo")))
