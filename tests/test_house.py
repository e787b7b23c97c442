"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from ollama_gateway.cli.main import COMMANDS, command_named

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "ollama_gateway"
DOCS = ROOT / "docs"
LONGEST = 300
"""Lines of a file; a longer one is not read whole."""
AT_HOME: dict[str, set[str]] = {
    "redis": {
        "backends/shared.py",
        "limits/redis/scripts.py",
        "storage/redis.py",
        "storage/redis_faults.py",
    },
    "psycopg": {"storage/postgres.py"},
    "backports": {"wire/encoding.py"},
    "sqlite3": {"storage/sqlite.py"},
    "h11": {"backends/heads.py", "http/connection_input.py", "http/protocol.py"},
    "hypercorn": {
        "http/app_tasks.py",
        "http/connection.py",
        "http/listener.py",
        "http/protocol.py",
    },
    "trio": {
        "clock.py",
        "supervisor.py",
        "watching.py",
        "processes/parent.py",
        "processes/orders.py",
        "processes/serving.py",
        "processes/spawn.py",
        "processes/child.py",
        "backends/backend.py",
        "backends/backends.py",
        "backends/discovery.py",
        "backends/plain.py",
        "backends/waiting.py",
        "flow/attempt.py",
        "flow/failures.py",
        "flow/deadline.py",
        "flow/managing.py",
        "flow/race.py",
        "flow/reading.py",
        "flow/relay.py",
        "server/app.py",
        "http/connection.py",
        "server/downstream.py",
        "http/listener.py",
        "http/tls.py",
        "cli/demo_acts.py",
        "cli/demo_run.py",
        "cli/serve.py",
        "cli/init.py",
        "cli/backends.py",
        "cli/pull.py",
    },
}


def imported(path: Path) -> set[str]:
    """The top-level packages that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("library", AT_HOME)
def test_a_library_is_imported_only_where_it_is_at_home(library: str) -> None:
    """Each client library stands behind one seam; the simulator has its own world."""
    found = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if library in imported(path) and "simulator" not in path.relative_to(SOURCE).parts
    }

    assert found == AT_HOME[library]


def test_no_file_is_too_long_to_read() -> None:
    """Source and tests are read whole, so they are short."""
    long = [
        f"{path.relative_to(ROOT)}: {lines}"
        for folder in (SOURCE, ROOT / "tests")
        for path in folder.rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > LONGEST
    ]

    assert long == []


def test_commands_print_in_one_way() -> None:
    """Through `cli/lines.py` and `output.py`, which let no word of others command a terminal."""
    # of cells made printable there
    tables = {"output.py", "table.py", "bars.py", "pull.py", "demo_run.py", "demo_acts.py"}
    for path in (SOURCE / "cli").rglob("*.py"):
        text = path.read_text()
        assert path.name in {"lines.py", "output.py"} or not re.search(
            r"typer\.echo|(?<![.\w])print\(", text
        ), path
        assert path.name in tables or "rich" not in imported(path), path


def test_wire_neither_waits_nor_does_io() -> None:
    """Protocol code is plain functions over bytes."""
    for path in (SOURCE / "wire").rglob("*.py"):
        tree = ast.parse(path.read_text())
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Await)], path
        assert not imported(path) & {"anyio", "trio", "socket", "os", "pathlib"}, path


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))])
def test_commands_in_the_docs_exist(page: Path) -> None:
    """Every `gatewayctl ...` that a page shows is a command."""
    for shown in re.findall(
        r"gatewayctl ([a-z]+(?:-[a-z]+)*(?: [a-z]+(?:-[a-z]+)*)?)", page.read_text()
    ):
        group, _, command = shown.partition(" ")
        assert group in COMMANDS, shown
        known = getattr(command_named(group), "commands", None)
        assert known is None or not command or command in known, shown


def test_files_named_in_the_docs_exist() -> None:
    """A page names files by their path, in the repository or the package, or by a name in it."""
    names = {path.name for folder in (SOURCE, ROOT / "tests") for path in folder.rglob("*.py")}
    missing = [
        f"{page.relative_to(ROOT)}: {named}"
        for page in [ROOT / "README.md", *DOCS.rglob("*.md")]
        for named in re.findall(r"`([\w./-]+\.(?:py|md|lua|sql))`", page.read_text())
        if named not in names
        and not any((folder / named).exists() for folder in (ROOT, SOURCE, page.parent))
    ]

    assert missing == []


def test_links_in_the_docs_lead_somewhere() -> None:
    """A page that moved is found by all that name it."""
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [ROOT / "README.md", *DOCS.rglob("*.md")]
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
        if not (page.parent / target).exists()
    ]

    assert broken == []


def test_every_test_says_what_it_shows() -> None:
    """A test's docstring is the fact it shows."""
    silent = [
        f"{path.name}:{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []
