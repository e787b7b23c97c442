"""Directories of a backend are removed from the answer to `/api/show`."""

from __future__ import annotations

import json

import pytest

from ollama_gateway.wire.modelfile import without_places
from tests.wire.scanning import run

HEX = "0123456789abcdef" * 4


def cleaned(modelfile: str) -> str:
    """Return the cleaned modelfile."""
    body = json.dumps({"modelfile": modelfile, "system": f"FROM /a/{HEX}"}).encode()
    after = json.loads(run(without_places(body)))
    assert after["system"] == f"FROM /a/{HEX}"
    text = after["modelfile"]
    assert isinstance(text, str)
    return text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"FROM /root/.ollama/models/blobs/sha256-{HEX}", f"FROM sha256-{HEX}"),
        (f"ADAPTER /srv/o/blobs/sha256-{HEX}", f"ADAPTER sha256-{HEX}"),
        (f"DRAFT /srv/o/blobs/sha256-{HEX}", f"DRAFT sha256-{HEX}"),
        (rf"FROM C:\Users\J Doe\.ollama\models\blobs\sha256-{HEX}", f"FROM sha256-{HEX}"),
        (r'FROM "D:\my models\x.gguf"', 'FROM "x.gguf"'),
        ("FROM /home/j doe/x.gguf", "FROM x.gguf"),
        (r"FROM \\nas\models\x.gguf", "FROM x.gguf"),
        ("FROM /x.gguf", "FROM x.gguf"),
        ("FROM llama3.2:3b", "FROM llama3.2:3b"),
        ("FROM ./x.gguf", "FROM ./x.gguf"),
        ("# FROM me/m1:latest", "# FROM me/m1:latest"),
        ("SYSTEM /no_think", "SYSTEM /no_think"),
        ("LICENSE see /usr/share/x", "LICENSE see /usr/share/x"),
    ],
)
def test_lines(line: str, expected: str) -> None:
    """The last part of a layer's path stays; any other text is unchanged."""
    assert cleaned(f"# x\n\n{line}\nPARAMETER stop a\n") == f"# x\n\n{expected}\nPARAMETER stop a\n"


@pytest.mark.parametrize(
    "body",
    [
        b'{"modelfile":"FROM m1:latest","x":1.0e5}',
        b'{"template":"\\"modelfile\\": \\"FROM /a/b\\"","x":[1,  2]}',
        b'{"x":"modelfile"}',
        b"[]",
        b"",
        b'{"modelfile":"FROM /a/b',
        b'{"modelfile":null}',
        b'{"modelfile":{"a":"FROM /a/b"}}',
        b"\xff\xfe",
    ],
)
def test_other_bytes_stay(body: bytes) -> None:
    """Without such a line any answer stays the same, byte for byte."""
    assert run(without_places(body)) == body


def test_escapes_survive() -> None:
    """The new string says the same as the old one, and the bytes around it stay."""
    body = b'{ "modelfile" : "FROM /a/b\\nSYSTEM \\u00e9\\u2028\\"\\ud83d\\ude00" , "z":1.10 }'
    after = run(without_places(body))

    assert json.loads(after)["modelfile"] == 'FROM b\nSYSTEM \u00e9\u2028"\U0001f600'
    assert after.startswith(b'{ "modelfile" : "')
    assert after.endswith(b' , "z":1.10 }')


def test_it_takes_linear_time() -> None:
    """A modelfile of slashes or quotes does not keep the gateway busy."""
    for text in ("/" * 300_000, "FROM " + "/a" * 100_000, "blobs/" * 50_000, '"' * 100_000):
        cleaned(text)


@pytest.mark.parametrize("place", [0, 1, 262_000, 262_130, 262_144, 600_000])
def test_a_large_answer_is_looked_at_in_windows(place: int) -> None:
    """No directory passes, wherever the field stands and however long it is."""
    for text in ("FROM /a/b\nSYSTEM x", "FROM /a/b\n" + "# \\x\n" * 100_000):
        body = json.dumps({"x": "y" * place, "modelfile": text, "z": "FROM /a"}).encode()
        after = run(without_places(body))

        assert b"/a/b" not in after
        assert json.loads(after)["z"] == "FROM /a"
        assert len(json.loads(after)["x"]) == place
