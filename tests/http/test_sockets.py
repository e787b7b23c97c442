"""Sockets from systemd are taken if they are for this process, and refused if unusable."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import pytest

from ollama_gateway.http.binding import AddressTaken
from ollama_gateway.http.sockets import handed_over

FIRST_DESCRIPTOR = 700
"""Descriptors from here on are unused."""


def variables(**changed: str) -> dict[str, str]:
    """Return the variables that systemd sets for one socket, and an unrelated one."""
    names = {"pid": str(os.getpid()), "fds": "1", "fdnames": "gateway.socket", **changed}
    return {"PATH": "/bin", **{f"LISTEN_{name.upper()}": value for name, value in names.items()}}


@contextlib.contextmanager
def held(*descriptors: int) -> Iterator[None]:
    """Copy these descriptors to `FIRST_DESCRIPTOR` and after; close the copies at the end."""
    copies = [os.dup2(descriptor, FIRST_DESCRIPTOR + i) for i, descriptor in enumerate(descriptors)]
    try:
        yield
    finally:
        for copy in copies:
            with contextlib.suppress(OSError):
                os.close(copy)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """Make a socket as a `.socket` unit does."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


def test_a_socket_is_taken_and_the_variables_are_gone(listening: socket.socket) -> None:
    """It is the same socket, non-blocking and not inheritable; a second call finds none."""
    environ = variables()
    with held(listening.fileno()):
        (taken,) = handed_over(environ, FIRST_DESCRIPTOR)
        with taken:
            assert taken.getsockname() == listening.getsockname()
            assert not taken.get_inheritable()
            assert taken.gettimeout() == 0.0
    assert environ == {"PATH": "/bin"}
    assert handed_over(environ, FIRST_DESCRIPTOR) == []


def test_several_sockets_are_taken_in_their_order(listening: socket.socket) -> None:
    """Several sockets keep the order of the unit; names are not needed."""
    with socket.create_server(("127.0.0.1", 0)) as second:
        with held(listening.fileno(), second.fileno()):
            taken = handed_over(variables(fds="2", fdnames=""), FIRST_DESCRIPTOR)
            ports = [sock.getsockname()[1] for sock in taken]
            for sock in taken:
                sock.close()
        assert ports == [listening.getsockname()[1], second.getsockname()[1]]


@pytest.mark.parametrize("pid", ["", "1", "abc", " "])
def test_sockets_for_another_process_are_left_alone(listening: socket.socket, pid: str) -> None:
    """Sockets for another process stay open, and the variables are removed all the same."""
    environ = variables(pid=pid)
    with held(listening.fileno()):
        assert handed_over(environ, FIRST_DESCRIPTOR) == []
        os.fstat(FIRST_DESCRIPTOR)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize("fds", ["", "-1", "1.0", "one", "٣", "9" * 5000, "1\n"])
def test_a_count_that_is_none_is_refused(fds: str) -> None:
    """A malformed LISTEN_FDS is an error."""
    with pytest.raises(AddressTaken, match=r"^LISTEN_FDS is not a number of sockets$"):
        handed_over(variables(fds=fds), FIRST_DESCRIPTOR)


@pytest.mark.parametrize(("fds", "names"), [("2", "a"), ("1", "a:b"), ("0", "a")])
def test_names_must_be_as_many(fds: str, names: str) -> None:
    """LISTEN_FDNAMES must have one name a socket, as in sd_listen_fds_with_names(3)."""
    with pytest.raises(AddressTaken, match="LISTEN_FDNAMES does not have one name"):
        handed_over(variables(fds=fds, fdnames=names), FIRST_DESCRIPTOR)


def test_no_socket_is_none() -> None:
    """A count of 0, as for a unit without sockets, yields no sockets."""
    assert handed_over(variables(fds="0", fdnames=""), FIRST_DESCRIPTOR) == []


def test_a_descriptor_that_is_not_there_is_refused(listening: socket.socket) -> None:
    """A missing descriptor is an error, and the sockets before it are closed."""
    with held(listening.fileno()):
        with pytest.raises(AddressTaken, match=r"^descriptor 701 of LISTEN_FDS is not a listening"):
            handed_over(variables(fds="2", fdnames="a:b"), FIRST_DESCRIPTOR)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(FIRST_DESCRIPTOR)


@pytest.mark.parametrize("kind", ["a file", "not listening", "udp", "unix"])
def test_what_is_no_listening_tcp_socket_is_refused(kind: str) -> None:
    """Sockets of `ListenDatagram=`, `ListenStream=/run/x` and the like are refused."""
    with contextlib.ExitStack() as stack:
        descriptor = _made(kind, stack)
        with (
            held(descriptor),
            pytest.raises(
                AddressTaken, match="descriptor 700 of LISTEN_FDS is not a listening TCP"
            ),
        ):
            handed_over(variables(), FIRST_DESCRIPTOR)


def _made(kind: str, stack: contextlib.ExitStack) -> int:
    if kind == "a file":
        descriptor = os.open("/dev/null", os.O_RDONLY)
        stack.callback(os.close, descriptor)
        return descriptor
    family = socket.AF_UNIX if kind == "unix" else socket.AF_INET
    sock_type = socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM
    sock = stack.enter_context(socket.socket(family, sock_type))
    if kind == "unix":
        sock.bind("\0gateway-tests-" + str(os.getpid()))
        sock.listen()
    return sock.fileno()
