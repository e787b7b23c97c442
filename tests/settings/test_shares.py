"""Totals are divided among processes, and each process gets a part."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.processes.shares import share, share_of
from tests.settings.conftest import Load, Problems

FEW = """
[server]
processes = 4
max_connections = 3
max_body_total = "200MiB"
[redis]
url = "redis://r"
[[backends]]
name = "a"
url = "http://a"
slots = 3
[[backends]]
name = "b"
url = "http://b"
"""


@given(st.integers(0, 2**40), st.integers(1, 64))
def test_the_parts_are_the_whole(total: int, count: int) -> None:
    """The parts add up, and no two differ by more than one."""
    parts = [share(total, number, count) for number in range(count)]

    assert sum(parts) == total
    assert max(parts) - min(parts) <= 1


def test_each_process_has_its_share_of_all_that_is_counted(loaded: Load) -> None:
    """Connections, bodies and slots are divided; 0 stays 0; all else is unchanged."""
    whole = loaded(FEW.replace("= 3", "= 10").replace("200MiB", "1GiB")).settings
    shares = [share_of(whole, number) for number in range(4)]

    assert [found.server.max_connections for found in shares] == [3, 3, 2, 2]
    assert [found.server.max_connections_per_address for found in shares] == [0, 0, 0, 0]
    assert {found.server.max_body_total for found in shares} == {2**28}
    assert [found.backends[0].slots for found in shares] == [3, 3, 2, 2]
    assert [found.backends[1].slots for found in shares] == [0, 0, 0, 0]
    assert {found.race for found in shares} == {whole.race}
    assert {found.server.max_body for found in shares} == {whole.server.max_body}


def test_the_connections_of_an_address_are_divided_too(loaded: Load) -> None:
    """A limit for one address is divided as well, if it is set."""
    toml = FEW.replace("= 3", "= 10\nmax_connections_per_address = 9", 1).replace("= 3", "= 4")
    whole = loaded(toml.replace("200MiB", "1GiB")).settings
    shares = [share_of(whole, number) for number in range(4)]

    assert [found.server.max_connections_per_address for found in shares] == [3, 2, 2, 2]


def test_the_remainders_of_backends_go_round(loaded: Load) -> None:
    """The slot that is left over goes to another process for each backend."""
    backends = "".join(
        f"[[backends]]\nname = '{name}'\nurl = 'http://{name}'\nslots = 3\n" for name in "ab"
    )
    whole = loaded(f"[server]\nprocesses = 2\n[redis]\nurl = 'redis://r'\n{backends}").settings

    found = [[backend.slots for backend in share_of(whole, n).backends] for n in range(2)]

    assert found == [[2, 1], [1, 2]]


def test_one_process_has_everything(loaded: Load) -> None:
    """A single process keeps the settings as they are."""
    whole = loaded("[[backends]]\nname = 'a'\nurl = 'http://a'\nslots = 3").settings

    assert share_of(whole, 0) == whole


def test_what_leaves_a_process_with_nothing_is_refused(problems: Problems) -> None:
    """The error names each total that is too small, and the number of processes."""
    few = FEW.replace("= 3", "= 3\nmax_connections_per_address = 2", 1)
    assert problems(few) == (
        "server.max_connections: 3 is less than server.processes (4): each process needs its own",
        (
            "server.max_connections_per_address: 2 is less than server.processes (4): "
            "each process needs its own"
        ),
        (
            "server.max_body_total: 200MiB, divided by server.processes (4), is less than "
            "server.max_body (64MiB): raise it"
        ),
        "backends[0].slots: 3 is less than server.processes (4): each process needs its own",
    )


def test_several_processes_need_redis(problems: Problems) -> None:
    """Settings with several processes and without Redis are refused."""
    (found,) = problems("[server]\nprocesses = 2")

    assert found.startswith("server.processes: more than one process needs redis.url")


def test_no_process_has_the_admin_token(loaded: Load) -> None:
    """Only the parent checks the token: its processes are reached through a private directory."""
    toml = FEW.replace("= 3", '= 10\nadmin_token = "operators-only-token"', 1).replace("= 3", "= 4")
    whole = loaded(toml.replace("200MiB", "1GiB")).settings

    assert whole.server.admin_token is not None
    assert [share_of(whole, number).server.admin_token for number in range(4)] == [None] * 4
