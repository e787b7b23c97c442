"""Model names, read as Ollama reads them.

`[scheme://][host/][namespace/]model[:tag]`, with defaults for missing parts. Several texts name one
model (`m1`, `M1:latest`, `https://registry.ollama.ai/library/m1`), so comparing texts would allow a
model under one spelling and forbid it under another. The rule: a text is parsed once, where it
enters, and from then on names are compared, mapped and stored by `ModelName.key` alone.

A suffix says where a model runs. `:local` restates the default and is dropped. `:cloud` and
`-cloud` send the prompt to Ollama's cloud, so a cloud name is a model of its own with a key of its
own, and a pattern covers it only if the pattern itself says `cloud`.

The grammar allows ASCII only. There Go and Python fold case alike, and no look-alike letter can
occur in a name.

Source: types/model/name.go and internal/modelref/modelref.go of Ollama v0.33.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from typing import Final

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.reasons import Reason

DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"

MAX_PATTERN: Final = 256
"""Characters in a pattern with wildcards; a longer one matches nothing."""


# Go's unicode.IsSpace; str.strip() would also strip \x1c to \x1f, which Ollama refuses.
_GO_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)

_MODEL_NAME: Final = re.compile(
    r"""
    (?: (?: (?: [a-z][a-z0-9+.-]{0,31}:// )?
            (?P<host> \w[\w.:-]{0,349} ) / )?
        (?P<namespace> \w[\w-]{0,79} ) / )?
    (?P<model> \w[\w.-]{0,79} )
    (?: : (?P<tag> \w[\w.-]{0,79} ) )?
    """,
    re.ASCII | re.IGNORECASE | re.VERBOSE,
)


@attrs.frozen
class ModelName:
    """A model's full name, each part as written; two names are equal if Ollama takes them for one.

    The tag of a cloud name ends in `cloud`: it is `cloud` where no tag was given, else
    `<tag>-cloud`, as Ollama stores such names.
    """

    host: str = attrs.field(eq=str.lower)
    namespace: str = attrs.field(eq=str.lower)
    model: str = attrs.field(eq=str.lower)
    tag: str = attrs.field(eq=str.lower)

    @staticmethod
    def parse(text: str) -> ModelName:
        """Parse a name from a client, a backend's list or a pattern.

        Raises:
            BadRequest: the text is empty or no name in Ollama's grammar, for example a digest.

        """
        return _parsed(text.strip(_GO_SPACE))

    @functools.cached_property
    def key(self) -> str:
        """The full name in lower case: the model's identity, for maps and comparisons."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}".lower()

    @functools.cached_property
    def short(self) -> str:
        """The name as in Ollama's lists: no default host and namespace, always a tag."""
        name = f"{self.model}:{self.tag}"
        if self.host.lower() != DEFAULT_HOST:
            return f"{self.host}/{self.namespace}/{name}"
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{name}"
        return name

    @functools.cached_property
    def cloud(self) -> bool:
        """Return whether Ollama sends requests for this name to its cloud."""
        return self.tag.lower() == "cloud" or self.tag.lower().endswith("-cloud")

    def __str__(self) -> str:
        return self.short


@functools.lru_cache(maxsize=1024)  # only valid names are cached, of at most some 600 characters
def _parsed(text: str) -> ModelName:
    if not text:
        raise BadRequest("model is required", reason=Reason.INVALID_MODEL_NAME)
    base, source = _split_source(text)
    if source and _split_source(base)[1]:
        raise BadRequest("use either :local or :cloud, not both", reason=Reason.INVALID_MODEL_NAME)
    parts = _MODEL_NAME.fullmatch(base)
    if parts is None:
        raise BadRequest("invalid model name", reason=Reason.INVALID_MODEL_NAME)
    tag = parts["tag"]
    if source == "cloud":
        tag = f"{tag}-cloud" if tag else "cloud"
    return ModelName(
        host=parts["host"] or DEFAULT_HOST,
        namespace=parts["namespace"] or DEFAULT_NAMESPACE,
        model=parts["model"],
        tag=tag or DEFAULT_TAG,
    )


def matches(pattern: str, name: ModelName) -> bool:
    """Return whether a key's model pattern covers this name; never raises.

    A pattern without `*`, `?` and `[` is a name with defaults filled in; one that cannot be parsed
    covers nothing. Any other pattern must match the whole of `name.short`, tag included, regardless
    of case. Only a pattern that ends in `cloud` covers a cloud name.
    """
    pattern, has_wildcards = _folded(pattern)
    if not has_wildcards:
        return _key_of(pattern) == name.key
    if len(pattern) > MAX_PATTERN or (name.cloud and not pattern.endswith("cloud")):
        return False
    return _glob(pattern).match(name.short.lower()) is not None


def is_cloud_pattern(pattern: str) -> bool:
    """Return whether a key's model pattern allows data to go to Ollama's cloud.

    With wildcards it must end in `cloud`; without, it must be the name of a cloud model (`mycloud`
    is none).
    """
    pattern, has_wildcards = _folded(pattern)
    if not has_wildcards:
        key = _key_of(pattern)
        return key is not None and ModelName.parse(key).cloud
    return len(pattern) <= MAX_PATTERN and pattern.endswith("cloud")


def _split_source(text: str) -> tuple[str, str]:
    """Split off the suffix that says where a model runs: `cloud`, `local` or nothing."""
    before, colon, after = text.rpartition(":")
    if not colon:
        return text, ""
    suffix = after.strip(_GO_SPACE)
    match suffix.lower():
        case "cloud" | "local" as source:
            return before, source
        case folded if folded.endswith("-cloud") and "/" not in suffix:
            return f"{before}:{suffix[: -len('-cloud')]}", "cloud"
    return text, ""


@functools.lru_cache(maxsize=1024)
def _folded(pattern: str) -> tuple[str, bool]:
    """Return a pattern as it is compared, and whether it has wildcards."""
    folded = pattern.strip(_GO_SPACE).casefold()
    return folded, any(wildcard in folded for wildcard in "*?[")


@functools.lru_cache(maxsize=1024)
def _key_of(pattern: str) -> str | None:
    try:
        return ModelName.parse(pattern).key
    except BadRequest:
        return None


@functools.lru_cache(maxsize=1024)
def _glob(pattern: str) -> re.Pattern[str]:
    # Each `*` is an atomic group since Python 3.11, so no pattern makes matching explode.
    return re.compile(fnmatch.translate(pattern))
