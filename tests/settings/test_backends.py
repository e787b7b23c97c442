from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_gateway.settings import load
from tests.settings.conftest import Load, Problems

TWO = """
[[backends]]
name = "a"
url = "http://a:11434/"
[[backends]]
name = "b"
url = "http://b:11434"
priority = 1
auth_token = { file = "key" }
headers = { "X-Team" = { env = "TEAM" }, "X-Site" = "x" }
models = ["llama*"]
verify = false
"""


def test_backends_of_the_file(loaded: Load, tmp_path: Path) -> None:
    """Every field is read, and priority defaults to the position in the file."""
    (tmp_path / "key").write_text("k\n")
    first, second = loaded(TWO, {"TEAM": "ml"}).settings.backends
    assert (first.name, first.url, first.priority) == ("a", "http://a:11434", 1)
    assert (first.models, first.verify, first.auth_token) == (("*",), True, None)
    assert second.priority == 1
    assert second.auth_token is not None
    assert second.auth_token.reveal() == "k"
    assert {name: value.reveal() for name, value in second.headers.items()} == {
        "X-Team": "ml",
        "X-Site": "x",
    }
    assert (second.models, second.verify) == (("llama*",), False)


@pytest.mark.parametrize(
    "text",
    [
        "a=http://a:1,b=http://b:2",
        " a = http://a:1 , b = http://b:2 ,",
        '[{"name": "a", "url": "http://a:1"}, {"name": "b", "url": "http://b:2"}]',
    ],
)
def test_the_variable_wins_over_the_file(loaded: Load, text: str) -> None:
    """OLLAMA_BACKENDS, in each of its forms, replaces the whole list of the file."""
    found = loaded(TWO, {"OLLAMA_BACKENDS": text, "OLLAMA_BASE_URL": "http://c:3"})
    listed = [(b.name, b.url, b.priority) for b in found.settings.backends]
    assert listed == [("a", "http://a:1", 1), ("b", "http://b:2", 2)]
    assert found.origins["backends[0].url"] == "environment"
    assert found.origins["backends[0].priority"] == "default"


def test_json_backends_take_every_field(tmp_path: Path) -> None:
    """The JSON objects take the same fields as the tables of the file."""
    item = {"name": "a", "url": "http://a", "auth_token": {"env": "T"}, "headers": {"X-A": "1"}}
    environ = {"OLLAMA_BACKENDS": json.dumps([item | {"priority": 7}]), "T": "secret"}
    (backend,) = load(None, environ, tmp_path).settings.backends
    assert backend.priority == 7
    assert backend.auth_token is not None
    assert backend.auth_token.reveal() == "secret"


def test_the_legacy_pair(tmp_path: Path) -> None:
    """OLLAMA_BASE_URL and OLLAMA_AUTH_TOKEN make one backend named `default`."""
    environ = {"OLLAMA_BASE_URL": "http://old:1/", "OLLAMA_AUTH_TOKEN": "t"}
    found = load(None, environ, tmp_path)
    (backend,) = found.settings.backends
    assert (backend.name, backend.url, backend.priority) == ("default", "http://old:1", 1)
    assert backend.auth_token is not None
    assert backend.auth_token.reveal() == "t"
    assert found.origins["backends[0].url"] == "environment"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OLLAMA_BASE_URL": "old:1"}, "OLLAMA_BASE_URL: must begin with http://"),
        ({"OLLAMA_AUTH_TOKEN": "hun\nter2"}, "OLLAMA_AUTH_TOKEN: it is not one line"),
        ({"OLLAMA_BACKENDS": "http://u:hunter2@a"}, "OLLAMA_BACKENDS: must be name=url"),
        ({"OLLAMA_BACKENDS": "a="}, "OLLAMA_BACKENDS[0].url: must be a URL"),
        ({"OLLAMA_BACKENDS": "a=http://a,a=http://b"}, 'OLLAMA_BACKENDS[1].name: "a" is already'),
        ({"OLLAMA_BACKENDS": "a=http://u:hunter2@a"}, "OLLAMA_BACKENDS[0].url: must not hold cred"),
        ({"OLLAMA_BACKENDS": "[]"}, "OLLAMA_BACKENDS: at least one backend is needed"),
        ({"OLLAMA_BACKENDS": "{}"}, "OLLAMA_BACKENDS: must be name=url"),
        ({"OLLAMA_BACKENDS": ","}, "OLLAMA_BACKENDS: at least one backend is needed"),
        ({"OLLAMA_BACKENDS": '["http://u:hunter2@a"]'}, "OLLAMA_BACKENDS[0]: must be a table"),
        ({"OLLAMA_BACKENDS": "[null]"}, "OLLAMA_BACKENDS[0]: must be a table"),
        ({"OLLAMA_BACKENDS": '["hunter2'}, "OLLAMA_BACKENDS: is not JSON: Unterminated string"),
        pytest.param(
            {"OLLAMA_BACKENDS": "[" * 100_000},
            "OLLAMA_BACKENDS: is not JSON: nested too deeply",
            id="deep",
        ),
        ({"OLLAMA_BACKENDS": f"[{'9' * 5000}]"}, "OLLAMA_BACKENDS: is not JSON"),
    ],
)
def test_a_wrong_variable_is_named(
    problems: Problems, environ: dict[str, str], expected: str
) -> None:
    """The error names the variable and the item, and shows nothing that may be secret."""
    (problem,) = problems("", environ)
    assert problem.startswith(expected)
    assert "hunter2" not in problem


@pytest.mark.parametrize("name", ["http://u:hunter2@a", "hunter2=x", "\ud800"])
def test_a_name_that_may_be_a_url_is_not_repeated(problems: Problems, name: str) -> None:
    """No error repeats such a name, and it does not count as a duplicate."""
    items = [{"name": name, "url": "http://a"}] * 2
    found = problems("", {"OLLAMA_BACKENDS": json.dumps(items)})
    assert [problem.partition(":")[0] for problem in found] == [
        "OLLAMA_BACKENDS[0].name",
        "OLLAMA_BACKENDS[1].name",
    ]
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("headers = 3", "backends[0].headers: must be a table"),
        ("headers = ['a']", "backends[0].headers: must be a table"),
        ("headers = { a = '' }", "backends[0].headers['a']: it is empty"),
        ("headers = { a = {env = 'NO'} }", "backends[0].headers['a']: the environment variable"),
        ('headers = { a = "x\\r\\nB: y" }', "backends[0].headers['a']: it is not one line"),
        ("headers = { Content-Length = '3' }", "backends[0].headers['Content-Length']: is set by"),
        (
            "auth_token = 't'\nheaders = { Authorization = 'x' }",
            "backends[0].headers['Authorization']: is given twice (auth_token counts): keep one",
        ),
        ("models = []", "backends[0].models: at least one pattern is needed"),
        ("models = ['']", 'backends[0].models: "" in the list'),
        ("models = '*'", 'backends[0].models: "*" is not a list of strings'),
        ("priority = -1", "backends[0].priority: -1 is not a whole number from 0"),
        ("ca_file = '/no/such'", "backends[0].ca_file: the file /no/such: no such file"),
        ("ca_file = '/'", "backends[0].ca_file: the file /: is a directory"),
        ("client_cert = '/dev/null'", "backends[0].client_cert: the file /dev/null: is not a reg"),
        (f"client_key = '{__file__}'", "backends[0].client_cert: is missing: client_key needs it"),
        ("verify = 'no'", 'backends[0].verify: "no" is not true or false'),
    ],
)
def test_a_wrong_field(problems: Problems, line: str, expected: str) -> None:
    """The error names the field and its fault."""
    (problem,) = problems(f"[[backends]]\nname = 'a'\nurl = 'http://a'\n{line}\n")
    assert problem.startswith(expected)


@pytest.mark.parametrize("toml", ["backends = []", "backends = {}", "backends = 'a'"])
def test_backends_of_another_shape(problems: Problems, toml: str) -> None:
    """The legacy pair does not replace a list of the wrong shape."""
    (problem,) = problems(toml, {"OLLAMA_BASE_URL": "http://a"})
    assert problem.startswith("backends: ")


def test_two_names_for_one_server_are_a_warning(loaded: Load) -> None:
    """Two backends with one URL are allowed, with a warning."""
    found = loaded("", {"OLLAMA_BACKENDS": "a=http://x:1,b=http://X:1/"})
    assert found.warnings == ("OLLAMA_BACKENDS[1].url: is the same server as OLLAMA_BACKENDS[0]",)
