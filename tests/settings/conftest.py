"""Fixtures for settings: an own directory, and no settings file of the system."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ollama_gateway.settings import Loaded, SettingsError, files, load

Load = Callable[..., Loaded]
Problems = Callable[..., tuple[str, ...]]


@pytest.fixture(autouse=True)
def no_system_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep tests independent of files in /etc."""
    monkeypatch.setattr(files, "SYSTEM_FILE", tmp_path / "etc" / "gateway.toml")


@pytest.fixture
def loaded(tmp_path: Path) -> Load:
    """Return a function that loads a text as `gateway.toml`, with its own environment."""

    def run(toml: str = "", environ: Mapping[str, str] | None = None) -> Loaded:
        (tmp_path / "gateway.toml").write_text(toml, encoding="utf-8")
        return load(None, environ or {}, tmp_path)

    return run


@pytest.fixture
def problems(loaded: Load) -> Problems:
    """Return a function that loads a wrong text and returns the problems."""

    def run(toml: str = "", environ: Mapping[str, str] | None = None) -> tuple[str, ...]:
        with pytest.raises(SettingsError) as caught:
            loaded(toml, environ)
        assert all("\n" not in problem for problem in caught.value.problems)
        return caught.value.problems

    return run
