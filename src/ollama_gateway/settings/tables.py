"""Make tables of raw values from the document and the environment.

A `Table` is one `[section]` or one backend before it is typed. It knows for each value whether it
came from a variable, so that a problem names the thing to change: `server.bind` in the file,
`GATEWAY_SERVER_BIND` in the environment. The environment wins over the file, value by value. The
list of backends comes whole from one source: `OLLAMA_BACKENDS`, else the file, else the legacy pair
`OLLAMA_BASE_URL` and `OLLAMA_AUTH_TOKEN`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs

from ollama_gateway.settings.model import SECTIONS, fields_of
from ollama_gateway.settings.units import Codec, discreet
from ollama_gateway.suggestions import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Origin = Literal["default", "file", "environment"]

VARIABLES: Final[Mapping[str, tuple[str, str]]] = {
    f"GATEWAY_{section}_{field.name}".upper(): (section, field.name)
    for section, cls in SECTIONS.items()
    for field in fields_of(cls)
}
"""Every variable that sets a `[section] key`."""

LISTS: Final = ("backends", "aliases")
"""Whatever else a settings file has beside sections."""

OTHER_VARIABLES: Final = (
    "GATEWAY_CONFIG",
    "GATEWAY_ALIASES",
    "OLLAMA_BACKENDS",
    "OLLAMA_BASE_URL",
    "OLLAMA_AUTH_TOKEN",
)
"""The other variables."""

DEFAULT_URL: Final = "http://127.0.0.1:11434"
"""The default address of Ollama."""


@attrs.frozen
class Table:
    """One table of settings before it is typed."""

    path: str
    """The prefix of its keys' names: `server`, `backends[1]`, `OLLAMA_BACKENDS[1]`."""
    values: dict[str, object]
    origin: Origin
    """The source of the values that no variable sets."""
    variables: Mapping[str, str] = {}
    """By key: the variable that sets this one value, if any."""

    def name_of(self, key: str) -> str:
        """Return the name of a value in messages: the variable, or the path in the file."""
        return self.variables.get(key) or f"{self.path}.{discreet(key)}"

    def origin_of(self, key: str) -> Origin:
        """Return the source of a value."""
        if key in self.variables:
            return "environment"
        return self.origin if key in self.values else "default"


def codec_of(annotation: object) -> Codec | None:
    """Return the `Codec` of an annotation, if any."""
    found = getattr(annotation, "__metadata__", ())
    return next((item for item in found if isinstance(item, Codec)), None)


def sections(
    document: Mapping[str, object], environ: Mapping[str, str], problems: list[str]
) -> dict[str, Table]:
    """Return a table for each section, with the environment laid over the file."""
    problems += [
        f"{discreet(key)}: unknown setting{_nearest_top(key)}"
        for key in document
        if key not in SECTIONS and key not in LISTS
    ]
    return {name: _section(name, document.get(name, {}), environ, problems) for name in SECTIONS}


def _nearest_top(key: str) -> str:
    owner = next((s for s, cls in SECTIONS.items() if key in attrs.fields_dict(cls)), None)
    if owner is not None:
        return f" (did you mean {owner}.{key}?)"
    return did_you_mean(key, [*SECTIONS, *LISTS])


def _section(name: str, found: object, environ: Mapping[str, str], problems: list[str]) -> Table:
    if not isinstance(found, dict):
        problems.append(f"{name}: must be a table: [{name}]")
        found = {}
    values = dict(found)
    variables = {}
    for field in fields_of(SECTIONS[name]):
        variable = f"GATEWAY_{name}_{field.name}".upper()
        if variable in environ:
            codec = codec_of(field.type)
            text = environ[variable]
            values[field.name] = codec.from_text(text) if codec else text
            variables[field.name] = variable
    return Table(name, values, "file", variables)


def unknown_variables(environ: Iterable[str]) -> list[str]:
    """Return a warning for each `GATEWAY_...` variable that sets nothing."""
    known = {*VARIABLES, *OTHER_VARIABLES}
    return [
        f"{discreet(name)}: unknown variable{_nearest_variable(name, known)}"
        for name in sorted(environ)
        if name.startswith("GATEWAY_") and name not in known
    ]


def _nearest_variable(name: str, known: Iterable[str]) -> str:
    if name.startswith("GATEWAY_BACKEND"):
        return " (did you mean OLLAMA_BACKENDS?)"
    # A high cutoff, because all names share their beginning.
    return did_you_mean(name, known, cutoff=0.85)


def backends(
    document: Mapping[str, object], environ: Mapping[str, str], problems: list[str]
) -> list[Table]:
    """Return a table for each backend, all from the first source that names any."""
    if text := environ.get("OLLAMA_BACKENDS"):
        return _listed("OLLAMA_BACKENDS", "environment", _from_text(text, problems), problems)
    if "backends" in document:
        return _listed("backends", "file", document["backends"], problems)
    pair = {"url": "OLLAMA_BASE_URL", "auth_token": "OLLAMA_AUTH_TOKEN"}
    variables = {key: name for key, name in pair.items() if name in environ}
    values: dict[str, object] = {"name": "default", "url": DEFAULT_URL}
    values |= {key: environ[name] for key, name in variables.items()}
    return [Table("backends[0]", values, "default", variables)]


def _listed(path: str, origin: Origin, found: object, problems: list[str]) -> list[Table]:
    if found is None:
        return []
    if not isinstance(found, list):
        problems.append(f"{path}: must be a list of tables")
        return []
    if not found:
        problems.append(f"{path}: at least one backend is needed")
    # Not repeated: the value may be a URL with a password.
    wrong = [index for index, item in enumerate(found) if not isinstance(item, dict)]
    problems += [f"{path}[{index}]: must be a table" for index in wrong]
    return [
        Table(f"{path}[{index}]", item, origin)
        for index, item in enumerate(found)
        if isinstance(item, dict)
    ]


def _from_text(text: str, problems: list[str]) -> list[Any] | None:
    """Parse the text of `OLLAMA_BACKENDS`; None after a problem. The text may hold secrets."""
    if not text.lstrip().startswith(("[", "{")):
        pairs = [item.split("=", 1) for item in text.split(",") if item.strip()]
        if any(len(pair) == 1 for pair in pairs):
            problems.append("OLLAMA_BACKENDS: must be name=url,name=url or a JSON list of backends")
            return None
        return [{"name": name.strip(), "url": url.strip()} for name, url in pairs]
    try:
        found = json.loads(text)
    except json.JSONDecodeError as exc:
        problems.append(f"OLLAMA_BACKENDS: is not JSON: {exc.msg} at character {exc.pos + 1}")
    except (ValueError, RecursionError):
        problems.append("OLLAMA_BACKENDS: is not JSON: nested too deeply, or a number too long")
    else:
        if isinstance(found, list):
            return found
        problems.append("OLLAMA_BACKENDS: must be name=url,name=url or a JSON list of backends")
    return None
