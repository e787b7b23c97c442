"""The line of a settings file in which a value is set."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_gateway.settings.places import line_of, located

TEXT = """\
# [race]
[server]
bind = "x"   # hedge_after = 1

[race]
max_attempts = 1
  "hedge_after" = "soon"
[[backends]]
url = "a"
[ server ] # again
[[backends]]
name = "b"
url = "b"
[aliases]
"gpt-4.1*" = "m"
'gpt-4o' = "m"
o3 = "m"
"""


@pytest.mark.parametrize(
    ("problem", "line"),
    [
        ("server.bind: is wrong", 3),
        ("race.hedge_after: is wrong", 7),
        ("backends[0].url: is wrong", 9),
        ("backends[1].url: is wrong", 13),
        ("backends[1]: is wrong", 11),
        ("backends[2].url: is wrong", None),
        ("race.idle_timeout: is wrong", None),
        ("GATEWAY_RACE_HEDGE_AFTER: is wrong", None),
        ("gateway.toml: is not TOML: Expected ']' (at line 1, column 6)", None),
        ('aliases."gpt-4.1*": is wrong', 15),
        ('aliases."gpt-4o": is wrong', 16),
        ('aliases."o3": is wrong', 17),
        ('aliases."o4": is wrong', None),
        ("no path", None),
    ],
)
def test_lines(problem: str, line: int | None) -> None:
    """A problem leads to the line of its value; there is none for a variable or a default."""
    assert line_of(problem, TEXT) == line


def test_problems_name_file_and_line(tmp_path: Path) -> None:
    """Problems with values of the file name it and the line; a file that is gone adds nothing."""
    file = tmp_path / "gateway.toml"
    problems = ["race.hedge_after: is wrong", "GATEWAY_X: is wrong"]
    assert located(problems, file) == located(problems, None) == problems
    file.write_text(TEXT)
    assert located(problems, file) == [
        f"race.hedge_after: is wrong ({file}, line 7)",
        "GATEWAY_X: is wrong",
    ]
