from __future__ import annotations

import io
import re
import tomllib
from pathlib import Path

import pytest
from dotenv import dotenv_values

from ollama_gateway.settings import BackendSettings, Settings, load
from ollama_gateway.settings.model import SECTIONS, fields_of
from ollama_gateway.settings.tables import OTHER_VARIABLES, VARIABLES
from tests.settings.conftest import Load

DOCS = Path(__file__).parents[2] / "docs" / "operate"
PAGE = (DOCS / "configuration.md").read_text(encoding="utf-8")
PAGES = sorted(page for page in DOCS.parent.rglob("*.md") if "```toml" in page.read_text("utf-8"))
EXAMPLE = (DOCS / ".env.example").read_text(encoding="utf-8")
# The example with every variable uncommented.
UNCOMMENTED = re.sub(r"^# (?=[A-Z_]+=)", "", EXAMPLE, flags=re.MULTILINE)
TABLES = {**SECTIONS, "backends[]": BackendSettings}
PATHS = [f"{name}.{field.name}" for name, cls in TABLES.items() for field in fields_of(cls)]


@pytest.mark.parametrize("path", PATHS)
def test_the_page_has_a_row_for_every_setting(path: str) -> None:
    """Each setting has exactly one row."""
    rows = [line for line in PAGE.splitlines() if line.startswith(f"| `{path}`")]
    assert len(rows) == 1


def test_the_page_has_no_row_for_anything_else() -> None:
    """The page lists no setting that does not exist."""
    rows = set(re.findall(r"^\| `([a-z_]+(?:\[\])?\.[a-z_]+)`", PAGE, flags=re.MULTILINE))
    assert rows == set(PATHS)


def test_the_page_names_every_variable_of_its_own() -> None:
    """The page names the variables that set no `[section] key`."""
    assert not [name for name in OTHER_VARIABLES if f"`{name}`" not in PAGE]


def test_the_example_of_the_page_is_the_defaults(loaded: Load) -> None:
    """The first example loads, holds every setting, and changes none."""
    toml, *_ = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    found = loaded(toml, {"GPU1_TOKEN": "t"})
    assert found.settings == Settings(backends=found.settings.backends)
    assert set(found.origins.values()) == {"file"}
    assert found.warnings == ()


def test_the_example_of_the_environment_is_complete_and_known() -> None:
    """The example has each variable once, and no other."""
    names = re.findall(r"^([A-Z_]+)=", UNCOMMENTED, flags=re.MULTILINE)
    assert sorted(names) == sorted([*VARIABLES, *OTHER_VARIABLES])


def test_the_example_of_the_environment_is_the_defaults(tmp_path: Path) -> None:
    """The file sets nothing as it is, and only defaults once its lines are uncommented."""
    assert dotenv_values(stream=io.StringIO(EXAMPLE)) == {}
    (tmp_path / ".env").write_text(UNCOMMENTED, encoding="utf-8")
    found = load(None, {}, tmp_path)
    assert found.settings == load(None, {}, tmp_path / "none").settings
    assert found.origins["server.bind"] == "environment"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_settings_that_other_pages_show_exist(page: Path) -> None:
    """Each example is TOML and names only settings that exist."""
    examples = re.findall(r"```toml\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)
    shown = [
        f"{section}{'[]' if isinstance(table, list) else ''}.{key}"
        for example in examples
        for section, table in tomllib.loads(example).items()
        if section != "aliases"  # any name may be one
        for key in (table[0] if isinstance(table, list) else table)
    ]
    assert not set(shown) - set(PATHS)
