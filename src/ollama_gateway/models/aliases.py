"""Aliases: names that clients insist on, and the models that answer to them.

An alias is an exact name (`gpt-4o`) or a pattern (`claude-*`). Exact names come before patterns; of
several patterns that match, the one with the longest literal part wins, then the first. A model of
an alias is never an alias again.

A name is compared as Ollama compares names, so `gpt-4o`, `GPT-4o` and `gpt-4o:latest` are one. A
pattern without a tag covers names without a tag too: `*-mini` covers `gpt-4o-mini`.
"""

from __future__ import annotations

import fnmatch
import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.names import DEFAULT_TAG, MAX_PATTERN, ModelName, matches

MAX_MODELS: Final = 16
"""Models of one alias; `race.max_attempts` seldom allows as many attempts."""
MAX_OWN_ALIASES: Final = 30
"""Aliases of one key."""

_WILDCARDS: Final = "*?["
_WILD: Final = re.compile(r"\[[^\]]*\]|[*?]")
_PATTERN: Final = re.compile(rf"[!-~]{{1,{MAX_PATTERN}}}")


class WrongAlias(ValueError):
    """No alias can be so; half a sentence that follows its name."""


@attrs.frozen
class Alias:
    """A name and the models that answer to it, the preferred one first."""

    name: str
    """As the operator wrote it: a model name, or a pattern with wildcards."""
    models: tuple[ModelName, ...]
    on_full: bool = False
    """Whether the next model is asked where the one before has no room."""

    @functools.cached_property
    def is_pattern(self) -> bool:
        """Whether the name has wildcards."""
        return has_wildcards(self.name)

    @functools.cached_property
    def key(self) -> str:
        """The identity of an exact name, as of a model; a pattern has its own text."""
        return self.name if self.is_pattern else ModelName.parse(self.name).key

    @property
    def literal(self) -> int:
        """The characters of a pattern that are no wildcards."""
        return len(_WILD.sub("", self.name))

    @property
    def hides(self) -> str | None:
        """The key of the model that it hides, if there is one; None if it names itself."""
        own = self.key
        return None if self.is_pattern or own in {model.key for model in self.models} else own


@attrs.frozen
class Aliases:
    """The aliases of the settings, or of one key."""

    all: tuple[Alias, ...] = ()
    """In the order in which they are written."""
    exact: Mapping[str, Alias] = attrs.field(init=False, eq=False, repr=False)
    """The exact ones, by the key of their name."""
    patterns: Sequence[tuple[re.Pattern[str], Alias]] = attrs.field(
        init=False, eq=False, repr=False
    )
    """The others, as expressions, in the order in which they are tried."""

    @exact.default
    def _exact(self) -> Mapping[str, Alias]:
        return {alias.key: alias for alias in self.all if not alias.is_pattern}

    @patterns.default
    def _patterns(self) -> Sequence[tuple[re.Pattern[str], Alias]]:
        # Compiled at once, as a thousand take longer than a request may hold up the others.
        found = sorted((a for a in self.all if a.is_pattern), key=lambda a: -a.literal)
        return [(re.compile(fnmatch.translate(alias.name.lower())), alias) for alias in found]

    @property
    def hidden(self) -> tuple[str, ...]:
        """The keys of the models that exact ones hide, if there are such models."""
        return tuple(alias.hides for alias in self.all if alias.hides is not None)

    def matching(self, name: ModelName) -> Alias | None:
        """Return the pattern that covers a name, see `covers`."""
        if not self.patterns:
            return None
        tagged, bare = _texts_of(name)
        for glob, alias in self.patterns:
            is_match = glob.match(tagged) or (bare and glob.match(bare))
            if is_match and (not name.cloud or alias.name.lower().endswith("cloud")):
                return alias
        return None


NO_ALIASES: Final = Aliases()


def has_wildcards(text: str) -> bool:
    """Return whether a text is a pattern, not a name."""
    return any(wildcard in text for wildcard in _WILDCARDS)


def covers(pattern: str, name: ModelName) -> bool:
    """Return whether a pattern covers a name, with its tag or, if that is `latest`, without it.

    Only a pattern that ends in `cloud` covers a cloud name.
    """
    if matches(pattern, name):
        return True
    is_default = name.tag.lower() == DEFAULT_TAG and has_wildcards(pattern)
    return is_default and matches(f"{pattern}:{DEFAULT_TAG}", name)


def _texts_of(name: ModelName) -> tuple[str, str | None]:
    """Return the texts that a pattern may match: with the tag and, if it is `latest`, without."""
    tagged = name.short.lower()
    bare, _, tag = tagged.rpartition(":")
    return tagged, bare if tag == DEFAULT_TAG else None


def alias_of(name: str, models: Iterable[str], *, on_full: bool = False) -> Alias:
    """Make an alias from the texts of its name and its models; raises WrongAlias."""
    if not _is_name(name):
        raise WrongAlias("is neither a model name nor a pattern")
    parsed = tuple(map(_model_of, models))
    if not 1 <= len(parsed) <= MAX_MODELS:
        raise WrongAlias(f"needs 1 to {MAX_MODELS} models")
    if len({model.key for model in parsed}) < len(parsed):
        raise WrongAlias("names the same model twice")
    return Alias(name, parsed, on_full)


def faults_of(aliases: Sequence[Alias]) -> Iterable[tuple[str, str]]:
    """Yield each alias that contradicts another: its name, and the fault as half a sentence."""
    first: dict[str, Alias] = {}
    for alias in aliases:
        known = first.setdefault(alias.key, alias)
        if known is not alias:
            yield alias.name, f"is the same name as {known.name}"
    for alias in aliases:
        for model in alias.models:
            other = first.get(model.key)
            if other is not None and other.hides is not None:
                yield alias.name, f"{other.name} is an alias itself: name a model"


def models_of(aliases: Aliases) -> dict[str, list[str]]:
    """Return the models' names by alias."""
    return {alias.name: [model.short for model in alias.models] for alias in aliases.all}


def text_of(aliases: Aliases) -> str | None:
    """Return a key's aliases as its store holds them: JSON, or None if it has none."""
    found = models_of(aliases)
    return json.dumps(found, separators=(",", ":")) if found else None


def aliases_from(text: str | None) -> Aliases:
    """Read what a store holds; raises ValueError if another program wrote it."""
    found = json.loads(text) if text else {}
    if not isinstance(found, dict) or not all(isinstance(names, list) for names in found.values()):
        raise WrongAlias("the aliases are no table of lists")
    return Aliases(tuple(alias_of(name, models) for name, models in found.items()))


def _is_name(text: str) -> bool:
    if has_wildcards(text):
        return _PATTERN.fullmatch(text) is not None
    try:
        ModelName.parse(text)
    except BadRequest:
        return False
    return text == text.strip()


def _model_of(text: object) -> ModelName:
    try:
        if isinstance(text, str):
            return ModelName.parse(text)
    except BadRequest:
        pass
    raise WrongAlias(f"{str(text)[:60]!r} is no model name")
