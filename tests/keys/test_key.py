from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_gateway.errors import Unauthorized
from ollama_gateway.keys.key import (
    DEFAULT_GROUPS,
    APIKey,
    Claim,
    KeyRefused,
    Principal,
    digest_of,
    generate,
    read_claim,
)
from ollama_gateway.wire.names import ModelName

GOOD = "ogw_abcd2345_0123456789abcdefghijABCDEFGHIJ0123456789abcdtpuFd"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
VISIBLE = "".join(chr(code) for code in range(0x21, 0x7F))


def is_refused(text: str) -> bool:
    """Whether the text alone is rejected."""
    try:
        read_claim(text)
    except Unauthorized:
        return True
    return False


def test_a_key_of_the_documented_form_is_read() -> None:
    """The form never changes: an old key stays valid."""
    assert read_claim(GOOD) == Claim(digest_of(GOOD))


def test_a_new_key_has_the_documented_parts() -> None:
    """`ogw_<id>_<secret><checksum>` is cut at `_`, and its secret holds 256 bits."""
    secret = generate()
    prefix, key_id, rest = secret.text.split("_")
    assert (prefix, key_id, len(key_id)) == ("ogw", secret.id, 8)
    assert len(rest) == 43 + 6
    assert 62**43 >= 2**256
    assert rest.isalnum()
    assert read_claim(secret.text).digest == digest_of(secret.text)


def test_keys_differ() -> None:
    """A thousand keys have a thousand texts, also for one id."""
    assert len({generate("abcd2345").text for _ in range(1000)}) == 1000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ogw_",
        "ogw_abcd2345",
        "ogw_abcd2345_",
        "ogw__",
        GOOD[:-1],
        GOOD + "0",
        GOOD + "\n",
        " " + GOOD,
        GOOD + " ",
        GOOD.lower(),
        GOOD[:-6] + "000000",
        GOOD.replace("abcd2345", "abcd2346"),
        "x" * 19,
        "x" * 513,
        "ogw_" + "x" * 600,
        "' OR '1'='1",
        "' OR '1'='1' UNION SELECT",
        "%",
        "*",
        "\x00",
        "x" * 20 + "\x00",
        "x" * 20 + "\x7f",
        "x" * 20 + "\ud800",
        "é" * 30,
        GOOD.replace("0", "\u0660"),
        '{"$gt": "", "padding": 1}',
        "*)(uid=*))(|(uid=* and more",
    ],
)
def test_what_cannot_be_a_key_is_refused(text: str) -> None:
    """Malformed keys, controls, blanks and non-ASCII are refused by their text alone."""
    assert is_refused(text)


@pytest.mark.parametrize(
    "text", ["x" * 20, "x" * 512, VISIBLE, "sk-0123456789abcdefghij", "'" * 30]
)
def test_a_key_made_elsewhere_passes_to_the_look_up(text: str) -> None:
    """Any 20 to 512 visible ASCII characters may be an imported key."""
    assert not is_refused(text)


def test_the_hash_of_a_key_is_another_key() -> None:
    """A digest from the store is no credential: it would be hashed again."""
    assert read_claim(digest_of(GOOD)).digest != digest_of(GOOD)


@given(
    st.integers(0, len(GOOD)),
    st.sampled_from(["replace", "insert", "delete"]),
    st.sampled_from(VISIBLE),
)
@example(0, "delete", "x")
@example(3, "replace", "-")
@example(0, "insert", "x")
@example(len(GOOD), "insert", "x")
def test_a_typo_never_reaches_the_store(place: int, kind: str, sign: str) -> None:
    """One character replaced, added or dropped anywhere, also in the prefix or checksum."""
    head, tail = GOOD[:place], GOOD[place:]
    rest = {"replace": sign + tail[1:], "insert": sign + tail, "delete": tail[1:]}[kind]
    assert is_refused(head + rest) == (head + rest != GOOD)


@given(st.integers(4, len(GOOD) - 2))
def test_swapped_neighbours_never_reach_the_store(place: int) -> None:
    """Two characters in the wrong order are refused as well, behind the prefix."""
    swapped = GOOD[:place] + GOOD[place + 1] + GOOD[place] + GOOD[place + 2 :]
    assert is_refused(swapped) == (swapped != GOOD)


@given(st.text(max_size=600))
def test_any_text_is_a_claim_or_refused(text: str) -> None:
    """No text a client can send raises another error, and every claim is visible ASCII."""
    assert is_refused(text) or set(text) <= set(VISIBLE)


@given(st.text(alphabet=string.ascii_letters + string.digits, min_size=49, max_size=49))
def test_a_guessed_secret_is_refused(secret: str) -> None:
    """The checksum rejects a text that only has the form of a key."""
    assert is_refused(f"ogw_abcd2345_{secret}")


def test_no_text_of_a_key_is_in_a_repr() -> None:
    """Secrets and digests do not print."""
    secret = generate()
    assert secret.text not in repr(secret)
    assert read_claim(secret.text).digest not in repr(read_claim(secret.text))


@pytest.mark.parametrize(
    "name", ["", " ", "a" * 101, "a\nb", "a\x00b", "a\x1b[1m", "\u202ea", " a"]
)
def test_a_wrong_name_is_refused(name: str) -> None:
    """A name is 1 to 100 visible characters, so it fits a log line."""
    with pytest.raises(KeyRefused, match="1 to 100 visible characters"):
        APIKey("abcd2345", name)


@pytest.mark.parametrize("models", [(), ("",), ("a b",), ("a\n*",), ("*" * 300,), ("ok", "a:b:c")])
def test_a_wrong_pattern_is_refused(models: tuple[str, ...]) -> None:
    """A pattern that could never match is refused at once."""
    with pytest.raises(KeyRefused, match="pattern"):
        APIKey("abcd2345", "ci", models)


@pytest.mark.parametrize("groups", [set(), {"inferense"}, {"read", "admin"}])
def test_a_wrong_endpoint_group_is_refused(groups: set[str]) -> None:
    """The message names the groups there are."""
    with pytest.raises(KeyRefused, match="inference, embeddings, read, manage"):
        APIKey("abcd2345", "ci", endpoints=frozenset(groups))


def test_a_key_manages_nothing_unless_told() -> None:
    """By default a key may infer, embed and read, and use every model but cloud ones."""
    principal = APIKey("abcd2345", "ci").principal()
    assert principal == Principal("abcd2345", "ci", ("*",), DEFAULT_GROUPS)
    assert [principal.may_call(g) for g in ("inference", "embeddings", "read", "manage")] == [
        True,
        True,
        True,
        False,
    ]
    assert principal.may_use(ModelName.parse("llama3"))
    assert not principal.may_use(ModelName.parse("gpt-oss:120b-cloud"))


def test_a_model_is_allowed_by_any_pattern() -> None:
    """Patterns add up."""
    principal = APIKey("abcd2345", "ci", ("llama3*", "M1")).principal()
    allowed = [
        n for n in ("llama3:8b", "m1", "m1:8b", "qwen3") if principal.may_use(ModelName.parse(n))
    ]
    assert allowed == ["llama3:8b", "m1"]


def test_a_key_is_active_until_it_is_not() -> None:
    """Expiry counts from its very moment; revocation outweighs it."""
    key = APIKey("abcd2345", "ci", expires_at=NOW)
    assert key.status(NOW - timedelta(microseconds=1)) == "active"
    assert key.status(NOW) == "expired"
    assert APIKey("abcd2345", "ci", expires_at=NOW, revoked_at=NOW).status(NOW) == "revoked"
