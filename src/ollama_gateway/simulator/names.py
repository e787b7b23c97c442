"""Model names as Ollama reads them: `[scheme://][host/][namespace/]model[:tag]`.

Missing parts are filled in, surrounding whitespace is cut, `:local` is dropped, and `cloud` names
are distinguished. Two names are the same model if all four parts agree regardless of case; only
`/api/embeddings` compares the case. Written from `types/model/name.go` and
`internal/modelref/modelref.go` of Ollama, and sharing nothing with the gateway, so that a
misreading on one side does not cancel out.
"""

from __future__ import annotations

import re

import attrs

HOST, NAMESPACE, TAG = "registry.ollama.ai", "library", "latest"
MOST_PARTS = 3

_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")


class InvalidName(ValueError):
    """A string that is no model name; the text is Ollama's."""


@attrs.frozen
class Name:
    """A full model name; `cloud` is whether it asks for a model of ollama.com."""

    host: str
    namespace: str
    model: str
    tag: str
    cloud: bool = attrs.field(default=False, eq=False)

    @property
    def folded(self) -> tuple[str, ...]:
        """The key that all spellings of one model share."""
        return tuple(part.lower() for part in (self.host, self.namespace, self.model, self.tag))

    @property
    def short(self) -> str:
        """The name as in listings: without defaults, always with a tag."""
        host = "" if self.host.lower() == HOST else f"{self.host}/"
        plain = not host and self.namespace.lower() == NAMESPACE
        namespace = "" if plain else f"{self.namespace}/"
        return f"{host}{namespace}{self.model}:{self.tag}"

    @property
    def full(self) -> str:
        """The name with every part, as in some error texts."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"


def parse(text: str) -> Name:
    """Read a model name from a request.

    Raises:
        InvalidName: with Ollama's text.

    """
    bare = text.strip()
    stem, local, cloud = _suffix(bare)
    if (local and (cloud or _suffix(stem)[2])) or (cloud and _suffix(stem)[1]):
        raise InvalidName(f'use either :local or :cloud, not both: "{bare}"')
    name = _split(stem if local or _is_source(bare) else bare)
    return attrs.evolve(name, cloud=cloud)


def plain(text: str) -> Name:
    """Read a name without a meaning of suffixes, as for copies and creations.

    Raises:
        InvalidName: with Ollama's text.

    """
    return _split(text.strip())


def stored(text: str) -> Name:
    """Read a name as pulls and deletions do: `x:20b:cloud` is stored as `x:20b-cloud`.

    Raises:
        InvalidName: with Ollama's text.

    """
    name = parse(text)
    if name.cloud and _is_source(text.strip()):
        return attrs.evolve(name, tag=f"{name.tag}-cloud")
    return name


def _suffix(text: str) -> tuple[str, bool, bool]:
    """Split off a source suffix; return the rest, and whether it said local or cloud."""
    stem, colon, last = text.rpartition(":")
    word = last.lower()
    if not colon or "/" in last:
        return text, False, False
    if word == "local":
        return stem, True, False
    return stem, False, word == "cloud" or word.endswith("-cloud")


def _is_source(text: str) -> bool:
    """Return whether `:cloud` follows a tag (`x:20b:cloud`), so it is no tag itself."""
    stem, _, last = text.rpartition(":")
    return last.lower() == "cloud" and ":" in stem.rpartition("/")[2]


def _split(text: str) -> Name:
    rest = text.partition("://")[2] if "://" in text else text
    path, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        path, tag = rest, TAG
    parts = path.split("/")
    if len(parts) > MOST_PARTS:
        raise InvalidName("invalid model name")
    host, namespace, model = [HOST, NAMESPACE][: MOST_PARTS - len(parts)] + parts
    _check(host, namespace, model, tag)
    return Name(host, namespace, model, tag)


def _check(host: str, namespace: str, model: str, tag: str) -> None:
    good = (
        _HOST.fullmatch(host)
        and _NAMESPACE.fullmatch(namespace)
        and _PART.fullmatch(model)
        and _PART.fullmatch(tag)
    )
    if not good:
        raise InvalidName("invalid model name")
