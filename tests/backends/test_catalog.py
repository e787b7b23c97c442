"""The catalog: the union over backends, and the parts of a poll that a listing keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.backends.catalog import Catalog, Listing, ModelEntry


def entry(name: str, *, modified: str = "2026-01-01", digest: str = "a" * 64) -> ModelEntry:
    """Make an entry of `/api/tags`."""
    return {"name": name, "model": name, "modified_at": modified, "digest": digest, "size": 1}


def listing(
    *entries: ModelEntry, version: str = "0.33.0", patterns: tuple[str, ...] = ("*",)
) -> Listing:
    """Make the result of a poll."""
    return Listing.read({"version": version}, {"models": list(entries)}, {}, patterns)


def test_the_union_lists_a_model_once() -> None:
    """Names that Ollama takes as equal are one model, hosted by both, in order of preference."""
    union = Catalog.union([("a", listing(entry("m1:latest"))), ("b", listing(entry("M1:latest")))])

    assert [e["name"] for e in union.models.values()] == ["m1:latest"]
    assert list(union.hosts.values()) == [("a", "b")]


def test_the_newest_comes_first() -> None:
    """The union is sorted by modification, newest first, as Ollama sorts."""
    union = Catalog.union(
        [
            ("a", listing(entry("old:1", modified="2024"))),
            ("b", listing(entry("new:1", modified="2026"))),
        ]
    )

    assert [e["name"] for e in union.models.values()] == ["new:1", "old:1"]


def test_a_mismatched_digest_is_taken_from_one_backend() -> None:
    """A name with two digests is listed once, whole, from the most recently modified entry."""
    new = entry("m:1", modified="2026", digest="b" * 64)
    union = Catalog.union([("a", listing(entry("m:1", modified="2024"))), ("b", listing(new))])

    assert list(union.models.values()) == [new]
    assert list(union.digest_mismatches.values()) == [{"a": entry("m:1")["digest"], "b": "b" * 64}]


@pytest.mark.parametrize(
    ("versions", "lowest"),
    [
        (("0.9.1", "0.33.0"), "0.9.1"),
        (("0.33.0-rc2", "0.34.0"), "0.33.0-rc2"),
        (("", "1.0"), "1.0"),
    ],
)
def test_the_lowest_version_counts(versions: tuple[str, str], lowest: str) -> None:
    """Clients must not be promised a feature that one of the backends lacks."""
    union = Catalog.union([(v, listing(version=v)) for v in versions])

    assert union.version == lowest


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        [],
        {"models": None},
        {"models": "x"},
        {"models": [None, 5, {}, {"name": 5}, {"name": "m:1"}, {"name": "m:1", "digest": "ab"}]},
        {"models": [{"name": "bad name\n", "digest": "a" * 64}]},
    ],
)
def test_what_is_no_model_is_left_out(hostile: object) -> None:
    """Entries need a valid name, and a digest that the CLI can slice."""
    assert Listing.read({"version": 5}, hostile, hostile, ("*",)).models == {}


def test_a_backends_own_patterns_choose_its_models() -> None:
    """`models` in a backend's settings limits its models."""
    found = listing(entry("llama3:8b"), entry("qwen:7b"), patterns=("llama*",))

    assert [e["name"] for e in found.models.values()] == ["llama3:8b"]


ENTRIES = st.builds(
    entry,
    st.sampled_from(["m1", "m2:1", "team/m3"]),
    modified=st.sampled_from(["2024", "2025"]),
    digest=st.sampled_from(["a" * 64, "b" * 64]),
)
LISTINGS = st.builds(
    lambda entries, version: listing(*entries, version=version),
    st.lists(ENTRIES, max_size=4),
    st.sampled_from(["", "0.32.0", "0.33.0"]),
)
ROUNDS = st.lists(st.dictionaries(st.sampled_from("abc"), LISTINGS), max_size=6)


@given(rounds=ROUNDS)
def test_a_catalog_of_changes_is_the_union(rounds: list[dict[str, Listing]]) -> None:
    """However backends come, change and go, the catalog is the union of what they list now."""
    catalog = Catalog()
    for found in rounds:
        listings = dict(sorted(found.items()))
        catalog = catalog.renewed(listings)
        whole = Catalog.union(listings.items())

        assert catalog == whole
        assert catalog.models == whole.models
        times = [entry["modified_at"] for entry in catalog.models.values()]
        assert times == sorted(times, reverse=True)
        assert catalog.renewed(dict(listings)) is catalog
