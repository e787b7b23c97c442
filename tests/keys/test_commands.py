from __future__ import annotations

import shlex
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.keys.key import digest_of
from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.keys.commands import as_json, failed, ran, run
from tests.keys.stores import LEGACY
from tests.support.spoilt import garbage

pytestmark = pytest.mark.usefixtures("data_dir")

RIGHTS = ("models", "endpoints")
MADE = ["id", "key", "name", *RIGHTS, "limits", "user_header", "aliases", "expires_at"]
HEADINGS = ["id", "name", "status", *RIGHTS, "created", "expires", "limits"]
TIMES = ("created_at", "expires_at", "revoked_at")
FIELDS = ["id", "name", "status", *RIGHTS, "limits", "user_header", "aliases", *TIMES]


def is_known(data_dir: Path, text: str) -> bool:
    """Whether the store finds this key."""
    with closing(SQLiteKeys(data_dir / "keys.db")) as store:
        return store.find([digest_of(text)]) != [None]


def test_create_prints_the_key_once_and_alone(data_dir: Path) -> None:
    """stdout has the key; stderr names the store, never the key; no listing has it."""
    result = run("create", "ci")
    text = result.stdout.removesuffix("\n")
    assert is_known(data_dir, text)
    assert result.stderr.splitlines()[0] == f"keys: sqlite {data_dir / 'keys.db'}"
    assert text not in result.stderr
    for command in (["list"], ["show", "ci"], ["revoke", "ci"]):
        assert text[13:] not in ran(*command) + ran(*command, "--json")


def test_create_as_json() -> None:
    """The output has its text and its rights; values come by option or with commas."""
    made = as_json(
        "create", "ci", "--models", "llama3*,m1", "--models", "m1", "--endpoints", "read"
    )
    assert list(made) == MADE
    assert made["key"].startswith(f"ogw_{made['id']}_")
    assert (made["name"], made["models"], made["endpoints"], made["expires_at"]) == (
        "ci",
        ["llama3*", "m1"],
        ["read"],
        None,
    )
    assert as_json("create", "cd")["endpoints"] == ["inference", "embeddings", "read"]


def test_a_key_may_name_the_header_that_says_who_asks() -> None:
    """The header's case does not matter, and it can be removed."""
    made = as_json("create", "webui", "--user-header", "X-OpenWebUI-User-Email")
    assert made["user_header"] == "x-openwebui-user-email"
    assert as_json("update", "webui", "--user-header", "none")["user_header"] is None


def test_an_expiry_is_a_duration() -> None:
    """A key made for 90 days ends 90 days after it was made."""
    as_json("create", "ci", "--expires", "90d")
    shown = as_json("show", "ci")
    assert shown["status"] == "active"
    assert shown["expires_at"].endswith("Z")
    assert shown["expires_at"] > shown["created_at"]
    assert as_json("update", "ci", "--expires", "never")["expires_at"] is None


def test_list_is_a_plain_table_without_a_terminal() -> None:
    """Each key is one line, oldest first, with columns separated by blanks."""
    assert ran("list").split() == HEADINGS
    key_id = as_json("create", "ci", "--models", "m1")["id"]
    ran("create", "[red]")
    ran("revoke", "[red]")
    lines = [line.split() for line in ran("list").splitlines()]
    assert lines[1][:5] == [key_id, "ci", "active", "m1", "inference,embeddings,read"]
    assert lines[2][1:3] == ["[red]", "revoked"]


def test_list_as_json() -> None:
    """JSON has every field of every key except secrets."""
    assert as_json("list") == []
    ran("create", "ci")
    (listed,) = as_json("list")
    assert list(listed) == FIELDS
    assert as_json("show", "ci") == {**listed, "usage": None}


def test_update_changes_what_is_given() -> None:
    """Other attributes stay."""
    before = as_json("create", "ci", "--models", "m1")
    after = as_json("update", "ci", "--name", "cd", "--endpoints", "read,manage")
    assert (after["id"], after["name"], after["models"]) == (before["id"], "cd", ["m1"])
    assert after["endpoints"] == ["read", "manage"]


def test_rotate_prints_the_new_key(data_dir: Path) -> None:
    """The old text ends at once, or after --grace."""
    first = as_json("create", "ci")["key"]
    second = ran("rotate", "ci").removesuffix("\n")
    third = as_json("rotate", "ci", "--grace", "24h")["key"]
    assert [is_known(data_dir, text) for text in (first, second, third)] == [False, True, True]


def test_revoke_says_what_it_revoked() -> None:
    """The same for a key that is already revoked."""
    ran("create", "ci")
    assert as_json("revoke", "ci")["status"] == "revoked"
    assert as_json("revoke", "ci")["status"] == "revoked"


def test_a_revoked_key_is_deleted() -> None:
    """`delete` prints the key as it was; it asks first, so that a script has to say `--yes`."""
    key_id = as_json("create", "ci")["id"]
    active = run("delete", "ci", "--yes")
    ran("revoke", "ci")
    asked = run("delete", "ci")
    deleted = as_json("delete", "ci", "--yes")

    assert active.stderr.endswith(f"gatewayctl keys: key {key_id} is active: revoke it first\n")
    question = f"Delete key {key_id} (ci)? No terminal to answer on: add --yes"
    assert (asked.exit_code, asked.stdout, asked.stderr.splitlines()[-1]) == (2, "", question)
    assert (deleted["id"], deleted["status"]) == (key_id, "revoked")
    assert as_json("list") == []


UNKNOWN = "gatewayctl keys: no key 'nobody'"


@pytest.mark.parametrize(
    ("arguments", "code", "stderr"),
    [
        ("show takne", 1, "no key 'takne' (did you mean taken?): `gatewayctl keys list`"),
        ("delete takne", 1, "no key 'takne' (did you mean taken?)"),
        ("delete taken --yes", 1, "gatewayctl keys: key "),
        ("show nobody", 1, f"{UNKNOWN}: `gatewayctl keys list` shows them"),
        ("revoke nobody", 1, UNKNOWN),
        ("rotate nobody", 1, UNKNOWN),
        ("update nobody --name x", 1, UNKNOWN),
        ("update nobody --concurrent 1", 1, UNKNOWN),
        ("show \"' OR '1'='1\"", 1, "gatewayctl keys: no key"),
        ("create taken", 1, "gatewayctl keys: name 'taken' is taken by key "),
        ("import missing.csv", 1, "gatewayctl keys: missing.csv: No such file or directory"),
        ("create", 2, "Missing argument"),
        ("create ''", 2, "1 to 100 visible characters"),
        ("create x --endpoints inferense", 2, "inference, embeddings, read, manage"),
        ("create x --models ''", 2, "at least one model pattern"),
        ("create x --models 'a b'", 2, "neither a model name nor a pattern"),
        ("create x --expires 90", 2, "is not a duration"),
        ("create x --expires 0d", 2, "longer than 0s"),
        ("rotate x --grace -1h", 2, "is not a duration"),
        ("create x --config missing.toml", 2, "missing.toml"),
        ("create x --requests-per-hour 5", 2, "No such option"),
        ("update taken", 2, ""),
        *(
            (f"create x --user-header {name}", 2, "")
            for name in ("Authorization", "x-api-key", "cookie", "'a b'", "'a\x1b'", "''")
        ),
    ],
)
def test_a_refused_command_says_why(arguments: str, code: int, stderr: str) -> None:
    """stdout is empty, stderr names the fault or the valid forms, and no key changes."""
    ran("create", "taken")
    before = as_json("list")
    result = run(*shlex.split(arguments))
    assert (result.exit_code, result.stdout) == (code, "")
    assert stderr in (result.stderr.splitlines()[-1] if code == 1 else result.stderr)
    assert as_json("list") == before


def test_a_store_that_cannot_be_used_is_exit_code_1(data_dir: Path) -> None:
    """The line names the file and its fault."""
    data_dir.mkdir()
    garbage(data_dir / "keys.db")
    path = data_dir / "keys.db"
    assert failed("list") == f"gatewayctl keys: {path}: file is not a database"


@pytest.mark.parametrize("source", ["file", "stdin"])
def test_import_takes_in_keys_as_they_are(data_dir: Path, tmp_path: Path, source: str) -> None:
    """Keys from a file or from stdin work, and are stored as hashes."""
    text = f"# old proxy\n\nlegacy,{LEGACY}\nother,{LEGACY}-2\n"
    (tmp_path / "keys.csv").write_text(text)
    result = run("import", "keys.csv") if source == "file" else run("import", "-", stdin=text)
    assert (result.exit_code, result.stdout) == (0, "imported 2 keys\n")
    assert is_known(data_dir, LEGACY)
    assert [key["name"] for key in as_json("list")] == ["legacy", "other"]


def test_an_import_with_a_problem_takes_in_nothing() -> None:
    """Every bad line is named, whether by itself or because of the store; no key is printed."""
    bad = run("import", "-", stdin=f"legacy,{LEGACY}\nno comma\nshort,{LEGACY[:19]}\n")
    assert bad.stderr.splitlines()[1:] == [
        "gatewayctl keys: line 2: not of the form name,key",
        "gatewayctl keys: line 3: the key is shorter than 20 characters",
    ]
    assert as_json("list") == []
    assert run("import", "-", "--json", stdin=f"legacy,{LEGACY}").exit_code == 0
    again = run("import", "-", stdin=f"new,{LEGACY}-2\nlegacy,{LEGACY}\n")
    assert again.stderr.splitlines()[1:] == [
        "gatewayctl keys: line 2: a key of this name exists",
        "gatewayctl keys: line 2: this key is in the store already",
    ]
    assert (bad.exit_code, again.exit_code) == (1, 1)
    assert [key["name"] for key in as_json("list")] == ["legacy"]
    assert LEGACY[:19] not in bad.output + again.output


def test_a_file_that_is_no_text_is_refused() -> None:
    """Bytes that are not UTF-8 give one line, not a trace."""
    sent = b"legacy,\xff\xfe" + LEGACY.encode()
    assert failed("import", "-", stdin=sent) == "gatewayctl keys: - is not UTF-8 text"
