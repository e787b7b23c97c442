"""Header names with an underscore, which some servers read as a dash."""

from __future__ import annotations

import pytest

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.headers import check_head, upstream_headers

HOST = (b"host", b"gateway:11435")


@pytest.mark.parametrize(
    "name",
    [
        b"Content_Length",
        b"transfer_Encoding",
        b"x_forwarded_for",
        b"X-Forwarded_For",
        b"x_gateway-backend",
        b"Keep_Alive",
    ],
)
def test_a_name_that_others_read_as_framing_is_refused(name: bytes) -> None:
    """CGI and nginx read `_` in a name as `-`."""
    with pytest.raises(BadRequest, match="_ in place of -"):
        check_head("POST", b"/api/chat", "1.1", [HOST, (name, b"v")])


@pytest.mark.parametrize("name", [b"session_id", b"conversation_id", b"x_api_key", b"_", b"a_b-c"])
def test_other_names_with_an_underscore_pass(name: bytes) -> None:
    """Codex sends some; none of them goes to a backend."""
    check_head("POST", b"/api/chat", "1.1", [HOST, (name, b"v")])
    assert upstream_headers([(name, b"v")]) == []
