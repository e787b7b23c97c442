from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.names import ModelName, matches

_PART = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,12}", fullmatch=True)
_WRITTEN = st.builds(
    lambda prefix, model, suffix: prefix + model + suffix,
    st.sampled_from(
        ["", "me/", "library/", "h.io:5000/ns/", "https://Registry.Ollama.AI/library/"]
    ),
    _PART,
    st.one_of(
        st.sampled_from(["", ":cloud", ":local", ":20b-CLOUD", ":latest:local", ":q8:Cloud"]),
        _PART.map(":{}".format),
    ),
)


@pytest.mark.parametrize(
    "text",
    [
        "m1",
        "M1",
        "m1:latest",
        "m1:LATEST",
        "library/m1",
        "Library/M1",
        "registry.ollama.ai/library/m1:latest",
        "REGISTRY.ollama.ai/library/m1",
        "https://registry.ollama.ai/library/m1",
        "HTTP://registry.ollama.ai/library/m1",
        " m1 ",
        "\u3000m1\t\n",
        "m1:local",
        "m1:LOCAL",
        "m1:latest:local",
        "m1: local",
    ],
)
def test_spellings_of_one_model(text: str) -> None:
    """All spellings that Ollama serves from one manifest have one key."""
    assert ModelName.parse(text).key == "registry.ollama.ai/library/m1:latest"


@pytest.mark.parametrize(
    "text",
    [
        "m2",
        "other/m1",
        "ollama.com/library/m1",
        "m1:7b",
        "m1:cloud",
        "m1:latest-cloud",
        "m1.latest",
    ],
)
def test_different_models(text: str) -> None:
    """Names that Ollama does not serve as m1 have another key."""
    assert ModelName.parse(text) != ModelName.parse("m1")
    assert ModelName.parse(text).key != ModelName.parse("m1").key


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("m", ("registry.ollama.ai", "library", "m", "latest")),
        ("Me/M", ("registry.ollama.ai", "Me", "M", "latest")),
        ("h/n/m:t", ("h", "n", "m", "t")),
        ("_why/_the/_lucky:_stiff", ("_why", "_the", "_lucky", "_stiff")),
        ("host:port/namespace/model", ("host:port", "namespace", "model", "latest")),
        ("host:https/namespace/model:tag", ("host:https", "namespace", "model", "tag")),
        ("scheme://host:port/n/m:t", ("host:port", "n", "m", "t")),
        ("8" * 80 + "/" + "8" * 80 + ":" + "8" * 80, (None, "8" * 80, "8" * 80, "8" * 80)),
        ("3" * 350 + "/n/m", ("3" * 350, "n", "m", "latest")),
        (
            "dolphin-mistral:7b-v2.6-dpo-laser-q6_K",
            (None, "library", "dolphin-mistral", "7b-v2.6-dpo-laser-q6_K"),
        ),
        ("x:cloud", (None, "library", "x", "cloud")),
        ("x:20b:Cloud", (None, "library", "x", "20b-cloud")),
        ("X:20B-CLOUD", (None, "library", "X", "20B-cloud")),
        ("x:" + "8" * 80 + ":cloud", (None, "library", "x", "8" * 80 + "-cloud")),
        ("localhost:11434/library/foo:cloud", ("localhost:11434", "library", "foo", "cloud")),
    ],
)
def test_parts(text: str, parts: tuple[str | None, str, str, str]) -> None:
    """Parts keep their spelling, missing ones get defaults, lengths reach Ollama's limits."""
    name = ModelName.parse(text)
    host, *rest = parts
    assert [name.host, name.namespace, name.model, name.tag] == [
        host or "registry.ollama.ai",
        *rest,
    ]


@pytest.mark.parametrize(
    "text",
    [
        "bad name",
        "a/b/c/d",
        "x:",
        ":x",
        "-x",
        ".x",
        "^",
        "@",
        "none@sha256:abc",
        "@sha256:" + "a" * 64,
        "m1\x00",
        "m1\x00x",
        "m1\nm2",
        "\x1cm1",
        "m1:a:b",
        "m1:latest:x",
        "/m1",
        "//m1",
        "hh//",
        "/nn/mm",
        "n/m:",
        "hh/-nn/mm:tt",
        "hh/nn/mm:-tt",
        "host/name:space/model:tag",
        "h/n.s/m",
        "https://m1",
        "https://library/m1",
        "a://b://h/n/m",
        "x:-cloud",
        ":cloud",
        "x :cloud",
        "x\u200b",
        "m\u0131",  # dotless i
        "\u017fmall",  # folds to "small"
        "\u212aimi",  # the Kelvin sign, folds to "kimi"
        "l\u04cfama",  # a Cyrillic look-alike
        "caf\u00e9",
        "cafe\u0301",
        "\uff4d1",  # fullwidth m
        "m1\ud800",
        "8" * 81,
        "n" * 81 + "/m",
        "m:" + "8" * 81,
        "3" * 351 + "/n/m",
        "x" * 10_240,
        "*",
        "llama*",
    ],
)
def test_no_name(text: str) -> None:
    """Every text that Ollama's grammar refuses is the same 400, which quotes nothing."""
    with pytest.raises(BadRequest, match=r"\Ainvalid model name\Z") as refusal:
        ModelName.parse(text)
    assert refusal.value.reason == "invalid_model_name"


@pytest.mark.parametrize("text", ["", " ", "\t\r\n", "\u00a0"])
def test_missing_name(text: str) -> None:
    """Whitespace alone is no name, in Ollama's words."""
    with pytest.raises(BadRequest, match=r"\Amodel is required\Z") as refusal:
        ModelName.parse(text)
    assert refusal.value.reason == "invalid_model_name"


@pytest.mark.parametrize(
    "text",
    ["m1:local:cloud", "foo:cloud:local", "m1:20b-cloud:LOCAL", "x:cloud:cloud", "x:local-cloud"],
)
def test_two_sources(text: str) -> None:
    """Two source suffixes are refused as in Ollama, even if they are the same."""
    with pytest.raises(BadRequest, match="use either :local or :cloud, not both"):
        ModelName.parse(text)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("m1", "m1:latest"),
        ("Registry.Ollama.AI/LIBRARY/M1", "M1:latest"),
        ("me/m2:v1", "me/m2:v1"),
        ("myhost/ns/x:code", "myhost/ns/x:code"),
        ("ollama.com/library/m1", "ollama.com/library/m1:latest"),
        ("apple/OpenELM", "apple/OpenELM:latest"),
        ("x:20b:cloud", "x:20b-cloud"),
        ("m1:local", "m1:latest"),
    ],
)
def test_short(text: str, short: str) -> None:
    """The short name is the one in Ollama's own lists."""
    assert ModelName.parse(text).short == short
    assert str(ModelName.parse(text)) == short


@pytest.mark.parametrize(
    ("text", "cloud"),
    [
        ("x:cloud", True),
        ("x:CLOUD", True),
        ("gpt-oss:20b-cloud", True),
        ("gpt-oss:20b:cloud", True),
        ("x", False),
        ("my-cloud-model", False),
        ("x-cloud", False),
        ("cloud", False),
        ("x:mycloud", False),
        ("cloud/x:cloudy", False),
        ("x:local", False),
    ],
)
def test_cloud(text: str, *, cloud: bool) -> None:
    """Only a suffix of the tag makes a cloud name."""
    assert ModelName.parse(text).cloud is cloud


def test_cloud_spellings_are_one_model() -> None:
    """`x:20b:cloud` and `x:20b-cloud` are one model, equal as values and in sets."""
    names = {ModelName.parse(text) for text in ("x:20b:cloud", "X:20b-cloud", "x:20B:CLOUD")}
    assert len(names) == 1
    assert {name.key for name in names} == {"registry.ollama.ai/library/x:20b-cloud"}


@given(st.text() | _WRITTEN)
@example("\ud800")
@example("x:\u0130cloud")
def test_parse_raises_only_bad_request(text: str) -> None:
    """Any text is a name in the grammar or a 400."""
    try:
        name = ModelName.parse(text)
    except BadRequest:
        return
    assert re.fullmatch(r"[a-z0-9_.:-]+/[a-z0-9_-]+/[a-z0-9_.-]+:[a-z0-9_.-]+", name.key)


@given(_WRITTEN)
def test_short_names_the_same_model(text: str) -> None:
    """The short form, as listed, parses to the same key."""
    try:
        name = ModelName.parse(text)
    except BadRequest:
        return
    assert ModelName.parse(name.short).key == name.key
    assert matches(name.short, name)


@given(_WRITTEN, _WRITTEN)
def test_equality_is_key_equality(one: str, other: str) -> None:
    """Names compare and hash as their keys do."""
    try:
        left, right = ModelName.parse(one), ModelName.parse(other)
    except BadRequest:
        return
    assert (left == right) is (left.key == right.key)
    assert left == ModelName.parse(one.upper().replace("HTTPS://", "https://"))
    assert hash(left) == hash(ModelName.parse(one.lower()))
