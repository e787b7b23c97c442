from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from ollama_gateway.wire.body import MAX_DEPTH
from ollama_gateway.wire.findings import Findings
from ollama_gateway.wire.scanner import Scanner
from ollama_gateway.wire.structure import MAX_KEY_LENGTH, Cutting, DocumentLimits, Unreadable
from tests.wire.scanning import Pairs, chunks_of, counts, documents, read, scanned

EVERYTHING = DocumentLimits(values=10**9)


@settings(max_examples=500, deadline=None)
@given(st.data(), documents(), st.sampled_from([8, 40, 4096]))
def test_it_passes_what_a_reader_of_the_whole_passes(
    data: st.DataObject, document: bytes, long: int
) -> None:
    """Chunks of any size give the same documents, the same members and the same counts."""
    chunks = data.draw(chunks_of(document))
    try:
        expected = read(document)
    except ValueError:
        with pytest.raises(Unreadable):
            scanned(chunks, Findings(EVERYTHING, long=long))
        event("refused")
        return

    scanner = scanned(chunks, Findings(EVERYTHING, keep=50, long=long))

    found = scanner.found
    assert scanner.is_complete
    assert [member.key for member in found.members] == [key for key, _ in expected]
    for member, (_, value) in zip(found.members, expected, strict=True):
        text = document[member.start : member.end]
        assert json.loads(text, object_pairs_hook=Pairs) == value
        assert member.kind == chr(text[0])
        assert member.raw == (text if len(text) <= 50 else None)
        assert json.loads(document[member.key_start : member.start].rstrip(b" \t\r\n:")) == (
            member.key
        )
    assert (found.containers, found.values) == counts(expected)
    event("read")


@settings(max_examples=300, deadline=None)
@given(st.data(), documents())
def test_a_cut_stands_where_a_value_or_its_key_begins(data: st.DataObject, document: bytes) -> None:
    """The bytes before a cut are JSON without the last comma and with the containers closed."""
    chunks = data.draw(chunks_of(document))
    found = Findings(cutting=Cutting(shallow=4, deep=8), long=8)
    try:
        scanned(chunks, found)
    except Unreadable:
        return

    places = [cut.at for cut in found.cuts]
    assert places == sorted(set(places))
    for cut in found.cuts:
        closers = "".join("}" if one.is_object else "]" for one in reversed(cut.path))
        head = document[: cut.at].rstrip(b" \t\r\n").removesuffix(b",")
        assert len(read(head + closers.encode())) <= len(read(document))
        for one in cut.path:
            if one.key_start >= 0:
                assert isinstance(json.loads(document[one.key_start : one.key_end]), str)
    event(f"{len(places)} cuts")


@settings(max_examples=300, deadline=None)
@given(st.data(), documents())
def test_what_is_left_out_is_a_string_or_a_gap(data: st.DataObject, document: bytes) -> None:
    """Each omission is long, complete, and overlaps no other."""
    chunks = data.draw(chunks_of(document))
    found = Findings(cutting=Cutting(), long=8)
    try:
        scanned(chunks, found)
    except Unreadable:
        return

    for one, two in pairwise(found.omissions):
        assert one.end <= two.start
    for one in found.omissions:
        text = document[one.start : one.end]
        assert len(text) >= 8
        is_gap = not text.strip(b" \t\r\n")
        is_key = not is_gap and document[one.end :].lstrip(b" \t\r\n").startswith(b":")
        assert is_gap or isinstance(json.loads(text), str)
        assert one.is_key == is_key


@pytest.mark.parametrize(
    ("document", "limits", "words"),
    [
        (b'{"a":[[],[]]}', DocumentLimits(containers=3), "more than 3 objects and arrays"),
        (
            b'{"a":[{},{"b":{}}]}',
            DocumentLimits(containers=4),
            r"raise server\.max_json_containers",
        ),
        (b'{"a":[1,2,3]}', DocumentLimits(values=4), "more than 4 values"),
        (b'{"a":["1,2",{},"3"]}', DocumentLimits(values=4), "more than 4 values"),
        (b'{"a":1,"b":2,"c":3}', DocumentLimits(members=2), "more than 2 fields"),
        (b'{"a":[[]]}', DocumentLimits(depth=2), "nested too deeply"),
        (b'{"a":1e300,"b":1e301,"c":1e302}', DocumentLimits(containers=2), "unusual form"),
        (b'{"a":1e309}', DocumentLimits(), "number out of range"),
        (b'{"%b":1}' % (b"k" * MAX_KEY_LENGTH), DocumentLimits(), "name that is too long"),
        (b'{"a":"\xff"}', DocumentLimits(), "must be UTF-8"),
        (b'["a"]', DocumentLimits(), "must be a JSON object"),
    ],
)
def test_over_a_limit(document: bytes, limits: DocumentLimits, words: str) -> None:
    """Each limit refuses one more than it allows."""
    for size in (1, 1000):
        chunks = [document[start : start + size] for start in range(0, len(document), size)]
        with pytest.raises(Unreadable, match=words):
            scanned(chunks, Findings(limits))


@pytest.mark.parametrize(
    ("document", "limits"),
    [
        (b'{"a":[[],[]]}', DocumentLimits(containers=4, depth=3)),
        (b'{"a":["1,2",{},"[3]"]}', DocumentLimits(containers=3, values=5)),
        (b'{"a":1,"b":2}', DocumentLimits(members=2, values=3)),
        (b'{"%b":1}' % (b"k" * (MAX_KEY_LENGTH - 2)), DocumentLimits()),
        (b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}", DocumentLimits()),
    ],
)
def test_up_to_a_limit(document: bytes, limits: DocumentLimits) -> None:
    """Documents at a limit are accepted; brackets and commas in strings do not count."""
    assert scanned([document], Findings(limits)).is_complete


@pytest.mark.parametrize("outer", ['{"a":%s}', '{"a":[%s]}', '{"a":{"b":%s}}', '{"a":[1,%s]}'])
@pytest.mark.parametrize("value", ["[1,]", '{"b":1,}', '["x","y",]', "[,]", "[{},]", "[1,2,3, ]"])
def test_no_comma_stands_before_the_end(outer: str, value: str) -> None:
    """A value must follow a comma, even where only scalars came since the bracket."""
    document = (outer % value).encode()
    for size in (1, 1000):
        chunks = [document[start : start + size] for start in range(0, len(document), size)]
        with pytest.raises(Unreadable, match="not valid JSON"):
            scanned(chunks, Findings(DocumentLimits()))


def test_a_refusal_does_not_wait_for_the_end() -> None:
    """An invalid document is refused within twice the bytes that can be held back."""
    for unit, limits in (
        (b"[],", DocumentLimits(containers=9)),
        (b"x", DocumentLimits()),
        (b"1 ", DocumentLimits()),
    ):
        scanner = Scanner(Findings(limits))
        scanner.feed(b'{"a":[')
        with pytest.raises(Unreadable):
            scanner.feed(unit * 10_000)


def test_members_are_known_while_they_pass() -> None:
    """A member is known from its value's first byte on, and its bytes once it has passed."""
    scanner = Scanner(Findings(keep=16))
    scanner.feed(b'{"object":"list","data":[[0.5')
    first, second = scanner.found.members

    assert (first.key, first.raw, first.kind) == ("object", b'"list"', '"')
    assert (second.key, second.end, second.raw, second.kind) == ("data", -1, None, "[")

    scanner.feed(b'],[1]],"usage":{"prompt_tokens":3}')
    assert [member.raw for member in scanner.found.members] == [b'"list"', b"[[0.5],[1]]", None]
    assert scanner.is_complete is False
    scanner.feed(b"}")
    scanner.finish()


@pytest.mark.parametrize("document", [b"", b" ", b"{", b'{"a"', b'{"a":"', b'{"a":1', b'{"a":[1,'])
def test_a_document_that_is_cut(document: bytes) -> None:
    """A document that ends early is refused."""
    with pytest.raises(Unreadable, match="not valid JSON"):
        scanned([document], Findings())


def test_what_is_long_is_not_held() -> None:
    """Only a few KiB of an endless string, run or stretch of whitespace are held."""
    for unit in (b"x" * 1000, b"\\n" * 500, b" " * 1000, "\U0001f600".encode() * 250, b"17,"):
        scanner = Scanner(Findings(keep=100), checks_text=True)
        scanner.feed(b'{"a":[')
        scanner.feed(b'"' if unit[0] not in b" 1" else b"0," if unit[0] in b"1" else b"")
        for _ in range(100):
            scanner.feed(unit)
            assert len(scanner._tail) < 10_000
