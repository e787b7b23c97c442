from __future__ import annotations

import attrs
import pytest

from ollama_gateway.settings import NOT_YET, Backend
from ollama_gateway.settings.model import SECTIONS
from tests.settings.conftest import Problems

OTHER = {
}
"""A value other than the default for each setting that is refused."""


def toml_of(path: str, value: str) -> str:
    """A file that gives this one setting."""
    section, _, key = path.partition(".")
    if section == "backends[]":
        return f"[[backends]]\nname = 'a'\nurl = 'http://a'\n{key} = {value}\n"
    return f"[{section}]\n{key} = {value}\n"


def test_the_list_is_the_one_tested() -> None:
    """A new entry needs its line above, and names a setting that exists."""
    assert set(OTHER) == set(NOT_YET)
    for path in NOT_YET:
        section, _, key = path.partition(".")
        assert key in attrs.fields_dict(Backend if section == "backends[]" else SECTIONS[section])


@pytest.mark.parametrize("path", OTHER)
def test_what_someone_would_rely_on_is_refused(problems: Problems, path: str) -> None:
    """Never silently ignored: the start ends."""
    found = problems(toml_of(path, OTHER[path]))
    refusal = f"{path.replace('[]', '[0]')}: {NOT_YET[path]}"
    assert refusal in found
    assert refusal.endswith("is not supported by this version yet")


def test_tls_needs_both_halves(problems: Problems) -> None:
    """The missing one is named as well."""
    found = problems("[server]\ntls_cert = 'a'")
    assert "server.tls_key: is missing: tls_cert and tls_key go together" in found
