"""The URL of a store is read as every reader reads it, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.settings.stores import fault_of_redis
from ollama_gateway.store_url import StoreURL, WrongURL

TEXT = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30)


@pytest.mark.parametrize(
    ("url", "hosts", "ports", "location"),
    [
        ("postgresql://gw:p%40ss@h:5433/db?sslmode=require", ("h",), (5433,), "h/db"),
        ("postgresql://gw:a:b@h1:1,[::1]:2,h3/db", ("h1", "[::1]", "h3"), (1, 2, None), None),
        ("postgresql://gw@%2Frun%2Fpg/db", ("/run/pg",), (None,), "/run/pg/db"),
        ("postgresql:///db?host=/run/pg&port=1", ("",), (None,), "/run/pg/db"),
        ("postgresql://h/db?hostaddr=10.0.0.1&dbname=other", ("h",), (None,), "10.0.0.1/other"),
        ("postgresql://", ("",), (None,), "local"),
        ("postgresql://h/a%40b", ("h",), (None,), "h/?"),
        ("redis://:p%2F@h:6379/0", ("h",), (6379,), "h/0"),
    ],
)
def test_what_is_read(
    url: str, hosts: tuple[str, ...], ports: tuple[int | None, ...], location: str | None
) -> None:
    """Hosts and ports are separate and decoded; messages show `?` for a name with other
    characters.
    """
    read = StoreURL.read(url)
    assert (read.hosts, read.ports) == (hosts, ports)
    assert location in {None, read.location}


@pytest.mark.parametrize("sign", [*'@/#?%[]\\ "<>^`{|}', "%4", "%zz", "\n", "\u00e9"])
def test_a_sign_that_readers_differ_over(sign: str) -> None:
    """An ambiguous URL is refused, and the message quotes none of it."""
    with pytest.raises(WrongURL) as caught:
        StoreURL.read(f"postgresql://gw:Tr0ub{sign}hunter2@h/db")
    assert "percent-encode the password" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(TEXT, TEXT)
def test_a_password_is_in_no_place(head: str, tail: str) -> None:
    """A password with a plain `@` is always refused, so no part of it is taken for the host."""
    try:
        read = StoreURL.read(f"postgresql://gw:{head}@{tail}@host.example/base")
    except WrongURL:
        return
    raise AssertionError(read.location)


@given(TEXT)
def test_what_is_read_is_what_was_meant(password: str) -> None:
    """Any URL that is accepted gives the intended host and database."""
    try:
        read = StoreURL.read(f"postgresql://gw:{password}@host.example/base")
    except WrongURL:
        return
    assert read.location == "host.example/base"


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("redis://h", None),
        ("redis://u:p%40@h:6379/15", None),
        ("rediss://h/0?ssl_cert_reqs=none", None),
        ("unix://u:p@/run/redis.sock?db=2", None),
        ("unix://h/run/redis.sock", "names no server"),
        ("redis://a,b", "names no server"),
        ("redis://h:0", "names no server"),
        ("redis://h/base", "has a path that is not the number of a database"),
        ("redis://h?db=base", "has a parameter that the Redis client does not know"),
        ("redis://h?no=such", "has a parameter that the Redis client does not know"),
        ("redis://h?socket_timeout=soon", None),  # `redis.timeout` takes its place
    ],
)
def test_redis_names_one_server_and_a_number(url: str, fault: str | None) -> None:
    """Anything but one server and a number is a fault, as Redis's client ignores it or fails
    later.
    """
    assert fault_of_redis(url) == fault
