"""The same commands on the gateway's machine and from another: same output, same exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import ollama
import pytest
from typer.testing import CliRunner, Result

from ollama_gateway.cli.main import app
from tests.smoke.fleet import Fleet, create_key, fleet

TOKEN = "an-admin-token"
CHANGING = re.compile(
    r"ogw_[a-z2-7]{8}_\w+"  # a key's text
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
    r"|(?<=\"reset_s\": )[\d.]+|(?<=resets in ).*"
)
"""What differs between two gateways that were given the same, besides the ids of keys."""
FILE = """\
name,key,models,tokens_per_day,aliases
old-1,oldkey-000000000000000001,m:1 n:*,5,
old-2,oldkey-000000000000000002,,,fast=m:1
"""


@attrs.frozen
class Two:
    """Two gateways alike: one for commands on its machine, one for commands from elsewhere."""

    fleet: Fleet
    far: tuple[str, ...]
    """The options that name the second one."""

    def near(self, *arguments: str, stdin: str = "") -> Result:
        """Run a command on the machine of the first one."""
        return CliRunner().invoke(app, arguments, stdin, env=self.fleet.environment)

    def remote(self, *arguments: str, stdin: str = "") -> Result:
        """Run a command on the second one, from a machine without settings."""
        return CliRunner().invoke(app, [*arguments, *self.far], stdin)

    def ids(self) -> set[str]:
        """Return the ids of all keys of both."""
        return {
            key["id"]
            for run in (self.near, self.remote)
            for key in json.loads(run("keys", "list", "--json").stdout)
        }


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    """Two gateways with the same backends, each with its own data."""
    directory = tmp_path_factory.mktemp("remote")
    (directory / "token").write_text(f"{TOKEN}\n")
    places = [directory / "near", directory / "far"]
    with fleet(places, gateways=2, GATEWAY_SERVER_ADMIN_TOKEN=TOKEN) as started:
        create_key(started.gateways[1].environment, "smoke")
        server = f"http://127.0.0.1:{started.gateways[1].admin_port}"
        yield Two(started, ("--server", server, "--token-file", str(directory / "token")))


SEQUENCES: dict[str, Sequence[str]] = {
    "create": ["keys create c1 --json", "keys create c2 --models m:1,n:* --expires never"],
    "create in full": [
        (
            "keys create full --models a --endpoints read,manage --requests-per-minute 5 --concurrent 2"
            " --tokens-per-day 100 --tokens-per-month default --user-header X-User --alias fast=m:1"
            " --json"
        ),
        "keys show full",
        "keys show full --json",
    ],
    "create again": ["keys create again", "keys create again"],
    "wrong values": [
        "keys create wrong --models a[b",
        "keys create wrong --user-header Authorization",
        "keys create wrong --requests-per-minute many",
    ],
    "list": ["keys create l1", "keys list", "keys list --json"],
    "unknown": ["keys create known", "keys show knwon", "keys revoke nothing", "keys show ogw_x"],
    "update": [
        "keys create u1 --tokens-per-day 7",
        "keys update u1 --name u2 --requests-per-minute 5 --json",
        "keys update u2 --alias x=m:1 --expires never",
        "keys update u2 --alias none --models * --json",
        "keys show u2",
        "keys update u2",
        "keys update u1 --models a",
    ],
    "many": [
        "keys create student-1",
        "keys create student-2",
        "keys update --match student-* --tokens-per-day 9",
        "keys update --match student-* --tokens-per-day 9 --yes",
        "keys update --match student-* --tokens-per-day 10 --yes --json",
        "keys update --match nothing-* --tokens-per-day 10 --yes",
    ],
    "rotate": ["keys create r1", "keys rotate r1", "keys rotate r1 --grace 1h --json"],
    "revoke and delete": [
        "keys create d1",
        "keys delete d1 --yes",
        "keys revoke d1",
        "keys delete d1",
        "keys rotate d1",
        "keys delete d1 --yes --json",
        "keys delete d1 --yes",
    ],
    "import": ["keys import {file}", "keys import {file}", "keys show old-2 --json"],
    "import json": ["keys import {lines} --json"],
    "import of nothing": ["keys import {missing}"],
    "backends": ["backends list --json", "backends list"],
    "pause": [
        "backends pause a --json",
        "backends list --json",
        "backends pause b",
        "backends resume a --json",
        "backends resume b",
        "backends pause c",
    ],
    "explain": ["explain shared:1 --json", "explain only-a:1", "explain nothing:1"],
    "health": ["health", "health --json", "health --ready"],
    "config": ["config diff --json", "reload --json", "reload"],
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_a_command_prints_the_same_from_anywhere(two: Two, name: str, tmp_path: Path) -> None:
    """stdout, the exit code and the last line of an error are the same, but for ids and times."""
    files = {"file": tmp_path / "keys.csv", "lines": tmp_path / "keys.jsonl"}
    files["file"].write_text(FILE)
    line = {"name": "old-3", "key": "oldkey-000000000000000003", "endpoints": ["read"]}
    files["lines"].write_text(f"\n{json.dumps(line)}\n")
    for command in SEQUENCES[name]:
        words = command.format(**files, missing=tmp_path / "missing").split()
        before = two.ids()
        near, far = two.near(*words), two.remote(*words)
        ids = before | two.ids()
        assert seen(far, ids) == seen(near, ids), command


def seen(result: Result, ids: set[str]) -> tuple[object, ...]:
    """Return what must not differ."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    error = "\n".join(result.stderr.splitlines()[-1:] if result.exit_code else ())
    changing = re.compile("|".join([CHANGING.pattern, *ids]))
    return result.exit_code, *(changing.sub("...", text) for text in (result.stdout, error))


READS = [
    "keys list",
    "keys list --json",
    "keys show smoke",
    "backends list",
    "backends list --json",
    "audit list",
    "audit list --json",
    "audit list --json --limit 1",
    "audit list --json --limit 2000",
    "audit list --limit 0",
    "audit list --json --key smoke --model shared:1 --since 1h --outcome completed",
    "audit list --key nothing",
    "audit show {id}",
    "audit show {id} --json",
    "audit show {change}",
    "audit show nothing",
    "usage",
    "usage --json",
    "usage --by key,model --per month --json",
    "usage --by day --csv",
    "usage --by model --model nothing:1",
    "explain shared:1 --key smoke",
    "explain shared:1 --json",
    "config diff",
    "health --json",
]


@pytest.fixture(scope="module")
def ids(two: Two) -> dict[str, str]:
    """The ids of a request and of a change in the audit log of the second gateway."""
    environment = two.fleet.gateways[1].environment
    made = two.remote("keys", "create", "asking", "--json")
    key = json.loads(made.stdout)["key"]
    client = ollama.Client(
        f"http://{environment['GATEWAY_SERVER_BIND']}", headers={"Authorization": f"Bearer {key}"}
    )
    for model in ("shared:1", "only-a:1"):
        client.chat(model, [{"role": "user", "content": "Hi"}])
    listed = CliRunner().invoke(app, ["audit", "list", "--json"], env=environment).stdout
    changes = CliRunner().invoke(app, ["audit", "changes", "--json"], env=environment).stdout
    return {
        "id": json.loads(listed.splitlines()[0])["request_id"],
        "change": json.loads(changes.splitlines()[0])["change_id"],
    }


@pytest.mark.parametrize("command", READS)
def test_what_is_read_of_one_gateway_is_the_same(
    two: Two, ids: dict[str, str], command: str
) -> None:
    """On the gateway's machine and from another, each byte of stdout and the exit code agree."""
    words = command.format(**ids).split()
    near = CliRunner().invoke(app, words, env=two.fleet.gateways[1].environment)
    far = two.remote(*words)

    where = re.compile("recorded in .*\n")  # the journal, which only its machine knows
    assert (far.exit_code, far.stdout) == (near.exit_code, where.sub("", near.stdout))
    if near.exit_code:
        assert far.stderr.splitlines()[-1:] == near.stderr.splitlines()[-1:]


def test_what_the_api_does_not_take_is_named(two: Two) -> None:
    """A value of a wrong shape is refused by the gateway, by the name of its field."""
    result = two.remote("keys", "create", "wrong", "--endpoints", "nothing")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "gatewayctl keys: endpoints/0: is not one of inference, embeddings, read, manage"
    ]


def test_a_wrong_token_is_named(two: Two, tmp_path: Path) -> None:
    """A gateway that does not take the token is no gateway that does not answer."""
    (tmp_path / "token").write_text("another")
    far = (*two.far[:3], str(tmp_path / "token"))
    shown = two.far[1]
    for command in (["keys", "list"], ["backends", "list"], ["explain", "m"], ["config", "diff"]):
        result = CliRunner().invoke(app, [*command, *far])
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.splitlines() == [
            f"gatewayctl {command[0]}: the gateway on {shown} refuses: invalid admin token"
        ]
