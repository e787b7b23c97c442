"""Completion in a real bash, on a terminal, beside a gateway that lists models."""

from __future__ import annotations

import os
import pty
import select
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from ollama_gateway.cli.completion import bash_words
from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.keys.admin_listener import AdminListener, admin_listener
from tests.support.patience import PATIENCE

BIN = Path(sys.executable).parent
MODELS = ["llama3.2:3b", "hf.co/unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF:Q4_K_M"]
SETTINGS = """
[server]
admin_bind = "127.0.0.1:{port}"
[storage]
data_dir = "{directory}/data"
[[backends]]
name = "gpu-1"
url = "http://10.0.0.5:11434"
"""


@contextmanager
def bash(directory: Path) -> Iterator[int]:
    """Run an interactive bash in a terminal with the completion script; yield its terminal."""
    script = subprocess.run(
        [BIN / "gatewayctl", "--show-completion", "bash"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )
    (directory / "completion.sh").write_text(script.stdout)
    (directory / "rc").write_text(
        f"PATH={shlex.quote(str(BIN))}:$PATH; PS1='ready> '; cd {shlex.quote(str(directory))}\n"
        "source completion.sh; bind 'set enable-bracketed-paste off'\n"
    )
    ours, theirs = pty.openpty()
    shell = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", str(directory / "rc"), "-i"],  # noqa: S607 - any bash
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "LC_ALL": "C.UTF-8", "TERM": "dumb", "COLUMNS": "400"},
        start_new_session=True,
    )
    os.close(theirs)
    try:
        read_until(ours, "ready> ")
        yield ours
    finally:
        os.close(ours)
        shell.kill()
        shell.wait()


def read_until(terminal: int, text: str) -> str:
    """Return what the terminal shows, up to a text."""
    shown = b""
    while text.encode() not in shown:
        assert select.select([terminal], [], [], PATIENCE)[0], shown
        shown += os.read(terminal, 4096)
    return shown.decode()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[AdminListener]:
    """A gateway with models, and settings with a backend and keys."""
    with admin_listener() as listener:
        listener.says("/models.json", {"models": MODELS})
        text = SETTINGS.format(port=listener.port, directory=tmp_path)
        (tmp_path / "gateway.toml").write_text(text)
        with closing(SQLiteKeys(tmp_path / "data" / "keys.db")) as store:
            for name in ("alice", "東京 推論"):
                store.create(name)
        yield listener


def test_names_are_completed_in_bash(listener: AdminListener, tmp_path: Path) -> None:
    """Tab completes keys, backends, and models with their colons."""
    with bash(tmp_path) as terminal:
        for typed, completed in [
            ("gatewayctl keys show al", " alice "),
            ("gatewayctl keys show 東", "'東京 推論' "),
            ("gatewayctl backends pause g", " gpu-1 "),
            ("gatewayctl explain llama3.2:", " llama3.2:3b "),
            ("gatewayctl usage --model=hf", f"={MODELS[1]} "),
        ]:
            os.write(terminal, f"{typed}\t".encode())
            read_until(terminal, completed)
            os.write(terminal, b"\x15")  # Ctrl-U: delete the line


@pytest.mark.parametrize(
    ("words", "place", "joined"),
    [
        ("gatewayctl\nexplain\nm", 2, "gatewayctl\nexplain\nm"),
        ("gatewayctl\nexplain\nm\n:\n3\nx", 4, "gatewayctl\nexplain\nm:3"),
        ("gatewayctl\nexplain\nm\n:\n", 4, "gatewayctl\nexplain\nm:\n"),
        ("gatewayctl\nusage\n--key\n=\na\n@\nb", 6, "gatewayctl\nusage\n--key=a@b"),
    ],
)
def test_words_that_bash_splits_are_joined(words: str, place: int, joined: str) -> None:
    """A name with colons is one word again; a blank ends it."""
    environ = {
        "_GATEWAYCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(place),
    }
    with bash_words(environ):
        assert environ["COMP_WORDS"] == joined
        assert environ["COMP_CWORD"] == str(joined.count("\n"))
