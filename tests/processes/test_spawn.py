"""The assignment over a process's control socket."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path

from ollama_gateway.processes.spawn import Assignment, receive_assignment
from ollama_gateway.settings import load


def test_the_settings_arrive_as_the_parent_read_them(tmp_path: Path) -> None:
    """Settings arrive with secrets, whatever file and environment contain by then."""
    environment = {
        "GATEWAY_SERVER_ADMIN_TOKEN": "operators-only-token",
        "OLLAMA_BACKENDS": '[{"name": "a", "url": "http://a", "headers": {"X-A": "secret"}}]',
    }
    settings = load(None, environment, tmp_path).settings
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(pickle.dumps(Assignment(1, settings, (7, 8), 9)))
        assignment = receive_assignment(theirs)

    assert assignment == Assignment(1, settings, (7, 8), 9)
    assert assignment.settings.server.admin_token is not None
    assert assignment.settings.server.admin_token.reveal() == "operators-only-token"
    assert "secret" not in repr(assignment)


def test_a_parent_that_has_ended_assigns_nothing(tmp_path: Path) -> None:
    """A parent that ends before or during the assignment assigns nothing."""
    settings = load(None, {}, tmp_path).settings
    for begun in (b"", pickle.dumps(Assignment(0, settings, (), 3))[:100]):
        ours, theirs = socket.socketpair()
        with theirs:
            ours.sendall(begun)
            ours.close()
            assert receive_assignment(theirs) is None
