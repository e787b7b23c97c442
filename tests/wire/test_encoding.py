"""Compressed bodies: their output, its chunks, and the refusals."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.encoding import MAX_OUTPUT, Decoder
from ollama_gateway.wire.headers import content_coding

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SKIPPABLE = b"\x50\x2a\x4d\x18\x01\x00\x00\x00x"
LONG_STRING: dict[int, int] = {
    zstd.CompressionParameter.window_log: 27,
    zstd.CompressionParameter.enable_long_distance_matching: 1,
}


def decoded(body: bytes, size: int = 100) -> bytes:
    """Decode a body that arrives in chunks."""
    decoder = Decoder()
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    found = b"".join(part for chunk in chunks for part in decoder.feed(chunk))
    decoder.end()
    return found


@given(st.binary(max_size=2000), st.sampled_from([1, 7, 1000]))
def test_what_was_compressed_comes_out(data: bytes, size: int) -> None:
    """Decoding undoes encoding, in whatever chunks the body arrives."""
    assert decoded(zstd.compress(data), size) == data


@given(st.binary(max_size=200))
def test_bytes_that_are_no_frame_are_refused_and_nothing_else(data: bytes) -> None:
    """Any bytes give a body or the one refusal."""
    with suppress(BadRequest):
        decoded(b"\x28\xb5\x2f\xfd" + data)
    with pytest.raises(BadRequest):
        decoded(b"{" + data)


def test_a_bomb_comes_out_in_pieces() -> None:
    """3 KB that stand for 100 MB are decoded no faster than the output is taken."""
    bomb = zstd.compress(bytes(100_000_000))
    chunks = Decoder().feed(bomb)

    assert len(bomb) < 10_000
    assert [len(next(chunks)) for _ in range(3)] == [MAX_OUTPUT] * 3


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        zstd.compress(b"hello")[:-1],
        zstd.compress(b"hello") + b"x",
        zstd.compress(b"hello") + zstd.compress(b"more"),
        SKIPPABLE + zstd.compress(b"hello"),
        zstd.compress(os.urandom(1 << 20) * 10, options=LONG_STRING),
    ],
)
def test_broken_frames_are_refused(body: bytes) -> None:
    """A frame that is cut off, followed by bytes, or needs too much memory is refused."""
    with pytest.raises(BadRequest) as refusal:
        decoded(body)
    assert refusal.value.reason == "invalid_body"


@pytest.mark.parametrize(
    ("values", "coding"),
    [
        ([], b""),
        ([b""], b""),
        ([b"identity"], b""),
        ([b" ZSTD "], b"zstd"),
        ([b"zstd", b"identity"], b"zstd"),
        ([b"zstd", b"zstd"], b"zstd,zstd"),
        ([b"zstd, gzip"], b"zstd, gzip"),
    ],
)
def test_how_a_body_is_encoded(values: list[bytes], coding: bytes) -> None:
    """The encoding is one known word; several make an unknown one."""
    assert content_coding([(b"Content-Encoding", value) for value in values]) == coding
