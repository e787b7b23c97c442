"""One word for one thing: replaced words stay out, and a name means one thing."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "ollama_gateway"
PROSE = re.compile(
    r"(?<![\w`./-])(?:strands?|tether|purse|turnstile|keepers?|(?:in|out)box|overtaken|least bad"
    r"|spender|trails?|wish(?:es)?|judgements?|surplus|surprises?|farewell|courtesy|bury|buried"
    r"|orphans?|somebody|whoever|records? of spending|is told|are told|forgo|epoch|refill|anchors?"
    r"|slim|drift|what (?:is|was)|nobody)(?![\w`/-])",
    re.IGNORECASE,
)
"""Words that the field does not use, or that English uses otherwise."""
SAID = {
    "ollama-gateway:1:{epoch}",  # a key in Redis
    "since the epoch",  # Unix's
    "slim images",  # Debian's
    "orphans",  # processes without a parent, in a container
    "spender",  # a column, and a field of a record
    "`nobody`",  # the user of that name
}
"""Phrases in which such a word is right."""
PARTS = {
    *("strand", "tether", "purse", "turnstile", "keeper", "wish", "judgement", "story"),
    *("farewell", "courtesy", "surplus", "withheld", "overtaken", "drift", "bury", "forgo"),
}
"""Parts of identifiers that were replaced; ordinary words among them may stand in prose."""
SAME_FILE = {
    "admin.py": "the admin listener: of one process, of several, and as commands ask it",
    "audit.py": "the services of the audit log, and its records for operators",
    "backends.py": "the backends, the commands that list them, and their documents",
    "commands.py": "the commands of a group",
    "config.py": "the settings for operators, and their commands",
    "connection.py": "a connection of a client, and of the simulator",
    "counting.py": "the token estimate, and the endpoint that answers it",
    "errors.py": "errors that end a request, and errors of the control surface",
    "explain.py": "the explanation of a choice, and its command",
    "heads.py": "HTTP heads towards clients, and from backends",
    "health.py": "the health of a backend, and the command that asks for the gateway's",
    "log.py": "the log, and how records reach it",
    "options.py": "the options of a group of commands",
    "pausing.py": "paused backends, changing them, and their commands",
    "postgres.py": "PostgreSQL, for all, for keys and for records",
    "sqlite.py": "SQLite, for all and for keys",
    "reading.py": "reading frames: in all dialects, and frames of any length",
    "store.py": "a store of keys, its use by commands, and the store of limits",
    "usage.py": "sums of usage, their documents, and their command",
    "models.py": "models as documents, and the operations on them",
    "status.py": "the state of a gateway, and the operation that tells it",
    "port.py": "the port to one resource, for its commands",
    "keys.py": "keys as documents, and the operations on them",
    "contexts.py": "names for gateways, and what their words mean elsewhere",
    "__main__.py": "what `python -m` runs",
}
"""Names of files that stand twice, and what they mean everywhere."""


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of comments, docstrings and pages."""
    text = path.read_text()
    if path.suffix == ".md":
        text = re.sub(
            r"```.*?```", lambda block: "\n" * block[0].count("\n"), text, flags=re.DOTALL
        )
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                yield number, lines[number - 1]


PAGES = [
    *ROOT.glob("src/**/*.py"),
    *(path for path in ROOT.glob("tests/**/*.py") if path != Path(__file__)),
    *ROOT.glob("docs/**/*.md"),
    ROOT / "README.md",
]


@pytest.mark.parametrize("folder", ["src", "tests", "docs", "README.md"])
def test_replaced_words_stay_out_of_prose(folder: str) -> None:
    """A reader who knows other proxies knows the words of this one."""
    found = []
    for path in PAGES:
        if path.relative_to(ROOT).parts[0] != folder:
            continue
        for number, line in prose(path):
            said = line
            for phrase in SAID:
                said = said.replace(phrase, "")
            if PROSE.search(said):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")

    assert found == []


def test_replaced_words_stay_out_of_identifiers() -> None:
    """Nor do they come back as names."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
            if token.type == tokenize.NAME:
                parts = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+", token.string)
                if PARTS & {part.lower() for part in parts}:
                    found.add(f"{path.relative_to(SOURCE)}: {token.string}")

    assert found == set()


def outside_the_simulator() -> list[Path]:
    """Return the files of the gateway; the simulator is a world of its own."""
    return [path for path in SOURCE.rglob("*.py") if "simulator" not in path.parts]


def test_a_type_has_a_name_of_its_own() -> None:
    """A type that is named in a traceback or a review is one, wherever it stands."""
    places = defaultdict(list)
    for path in outside_the_simulator():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(SOURCE)))

    assert {name: where for name, where in places.items() if len(where) > 1} == {}


def test_a_file_name_means_one_thing() -> None:
    """The same name in two rooms is the same thing there, and says so here."""
    names: defaultdict[str, int] = defaultdict(int)
    for path in outside_the_simulator():
        names[path.name] += path.name != "__init__.py"

    assert {name for name, count in names.items() if count > 1} <= set(SAME_FILE)
