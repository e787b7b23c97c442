"""The file of paused backends: its content, bad files in its place, and concurrent changes."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_gateway.backends import pausing
from ollama_gateway.backends.pausing import PauseFile, PausesBroken
from tests.backends.spoilt_pauses import SPOILT, a_directory, a_loop

ADDER = """
import sys
from pathlib import Path
from ollama_gateway.backends.pausing import PauseFile
file = PauseFile(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
for name in sys.argv[2:]:
    file.add(name)
"""


def test_what_is_added_is_read(tmp_path: Path) -> None:
    """Names are added and removed once, whatever else the file holds; reading creates nothing."""
    file = PauseFile(tmp_path / "some" / "data")
    assert file.read() == frozenset()
    assert not file.directory.exists()

    assert file.add("a") == {"a"}
    assert file.add("b") == file.add("b") == {"a", "b"}
    assert file.remove("a") == file.remove("never there") == {"b"}
    assert PauseFile(file.directory).read() == {"b"}
    assert json.loads((file.directory / "paused.json").read_text()) == ["b"]


def test_odd_names_stay_as_they_are(tmp_path: Path) -> None:
    """A name that is invalid in settings is kept when others change."""
    (tmp_path / "paused.json").write_bytes(b'["\\ud800", "a\\nb", ""]')

    assert PauseFile(tmp_path).add("a") == {"\ud800", "a\nb", "", "a"}
    assert PauseFile(tmp_path).read() == {"\ud800", "a\nb", "", "a"}


def test_the_file_is_private_and_its_directorys_owners(tmp_path: Path) -> None:
    """Other users cannot read it; a gateway of another user can read what root paused."""
    directory = tmp_path / "data"
    directory.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(directory, 12345, 12345)
    PauseFile(directory).add("a")

    for name in ("paused.json", "paused.lock"):
        status = (directory / name).stat()
        assert stat.S_IMODE(status.st_mode) == 0o600
        assert status.st_uid == directory.stat().st_uid

    PauseFile(tmp_path / "new").add("a")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize("kind", SPOILT)
def test_what_is_no_list_of_names_is_one_line(tmp_path: Path, kind: str) -> None:
    """Reading and changing report the fault without the directory, and change nothing."""
    spoil, fault = SPOILT[kind]
    spoil(tmp_path / "paused.json")
    file = PauseFile(tmp_path)

    for act in (file.read, lambda: file.add("b"), lambda: file.remove("a")):
        with pytest.raises(PausesBroken) as caught:
            act()
        assert str(caught.value) == f"paused.json: {fault}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["paused.json", "paused.lock"]


@pytest.mark.parametrize("name", ["paused.lock", "paused.new"])
@pytest.mark.parametrize("spoil", [a_directory, a_loop])
def test_a_file_that_cannot_be_written_keeps_what_it_has(
    tmp_path: Path, name: str, spoil: Callable[[Path], None]
) -> None:
    """A change that fails half-way leaves the old names, or is complete."""
    file = PauseFile(tmp_path)
    file.add("a")
    (tmp_path / name).unlink(missing_ok=True)
    spoil(tmp_path / name)

    if (name, spoil) == ("paused.new", a_loop):  # what a killed command left is thrown away
        assert file.add("b") == {"a", "b"}
    else:
        with pytest.raises(PausesBroken, match=f"^{name}: "):
            file.add("b")
        assert file.read() == {"a"}


def test_a_data_directory_that_is_none(tmp_path: Path) -> None:
    """A file in the place of the directory is one line too."""
    (tmp_path / "data").write_text("")
    file = PauseFile(tmp_path / "data")

    for act in (file.read, lambda: file.add("a")):
        with pytest.raises(PausesBroken):
            act()


def test_a_lock_that_is_not_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command stops waiting for another one that hangs."""
    monkeypatch.setattr(pausing, "LOCK_SECONDS", 0.0)
    file = PauseFile(tmp_path)

    with pausing._locked(tmp_path), pytest.raises(PausesBroken, match="another command holds it"):
        file.add("a")
    assert file.add("a") == {"a"}


def test_commands_at_once_lose_nothing(tmp_path: Path) -> None:
    """Names that three processes add at once are all there; readers see complete lists."""
    file = PauseFile(tmp_path)
    names = [[f"{who}-{n}" for n in range(15)] for who in "abc"]
    adders = [
        subprocess.Popen(
            [sys.executable, "-c", ADDER, str(tmp_path), *mine],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine in names
    ]
    for adder in adders:
        assert adder.stdout is not None
        assert adder.stdout.readline() == "ready\n"
    for adder in adders:
        assert adder.stdin is not None
        adder.stdin.write("go\n")
        adder.stdin.flush()
    seen = frozenset[str]()
    while any(adder.poll() is None for adder in adders):
        now = file.read()
        assert now >= seen
        seen = now
    for adder in adders:
        adder.communicate()

    assert [adder.returncode for adder in adders] == [0, 0, 0]
    assert file.read() == {name for mine in names for name in mine}
