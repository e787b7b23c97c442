"""Turn the bytes of a management request into an authorised command.

A key that may `manage` still touches only models that its patterns allow. This holds for every name
in a body: the model that is made, deleted, pulled or pushed (`model`, else `name`), the model it is
made `from`, and both sides of a copy. None of them may be an alias that hides a model. A blob has
no name: a client that knows its digest has the bytes already, or sends them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import attrs

from ollama_gateway.errors import BadRequest, ModelForbidden
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import Endpoint
from ollama_gateway.flow.resolving import Resolver
from ollama_gateway.keys.key import Principal
from ollama_gateway.reasons import Reason
from ollama_gateway.turns import in_turns
from ollama_gateway.wire import body as json_body
from ollama_gateway.wire.headers import Headers, upstream_headers
from ollama_gateway.wire.large import RequestBody, fields_of
from ollama_gateway.wire.names import ModelName

_DIGEST: Final = re.compile(r"sha256[:-][0-9a-fA-F]{64}")
"""Ollama's own form of a digest (manifest.BlobsPath)."""


@attrs.frozen
class Command:
    """An authorised request to change the models of one backend."""

    endpoint: Endpoint
    path: str
    headers: Headers = attrs.field(repr=False)
    body: RequestBody | None = attrs.field(repr=False)
    """None where the body is passed on as it arrives."""
    model: ModelName | None = None
    """The model that is made, changed, deleted or sent; the destination of a copy."""
    streams: bool = False
    """Whether the answer reports progress."""

    @property
    def reports_only_the_end(self) -> bool:
        """Whether the answer may take hours and sends nothing until its end."""
        return self.endpoint.streams_by_default is not None and not self.streams

    @property
    def changes_models(self) -> bool:
        """Whether the backend lists other models afterwards."""
        return self.endpoint.changes_models


async def read_command(principal: Principal, ask: Ask, names: Resolver) -> Command:
    """Read and authorise the request.

    Raises BadRequest, Forbidden, and the errors of reading a body.
    """
    headers = upstream_headers(ask.headers)
    if ask.endpoint.parameter == "digest":
        if not _DIGEST.fullmatch(ask.parameter):
            raise BadRequest("invalid digest format", reason=Reason.INVALID_DIGEST)
        is_upload = ask.endpoint.method == "POST"
        path = f"{ask.path}/{ask.parameter}"
        return Command(ask.endpoint, path, headers, None if is_upload else b"")
    body = await ask.downstream.body(principal.key_id)
    if ask.endpoint.is_account:
        return Command(ask.endpoint, ask.path, headers, body)
    document = await in_turns(fields_of(body))
    touched = list(_names(ask.endpoint, document))
    for name in touched:
        if not principal.may_use(name):
            raise ModelForbidden(name.short, reason=Reason.MODEL_NOT_ALLOWED)
        if names.hides(principal, name):
            raise BadRequest(
                f"{name.short} is an alias here: name its model", reason=Reason.INVALID_MODEL_NAME
            )
    default = ask.endpoint.streams_by_default
    streams = default is not None and json_body.wants_stream(document, default=default)
    return Command(ask.endpoint, ask.path, headers, body, touched[0], streams)


def _names(endpoint: Endpoint, document: dict[str, object]) -> Iterator[ModelName]:
    """Yield every model that a request touches, first the one that is made, changed or sent."""
    for field in endpoint.names:
        if field == "from":
            yield from _origin(document)
        elif field == "model":
            name = json_body.model_of(document, legacy=endpoint.has_legacy_name)
            yield ModelName.parse(name)
        else:
            yield ModelName.parse(json_body.text_of(document, field))


def _origin(document: dict[str, object]) -> Iterator[ModelName]:
    """Yield the model that a new one is made from, if any; raises BadRequest for a modelfile."""
    if any(json_body.lookup(document, key) for key in ("modelfile", "path")):
        # Before 0.5.5 Ollama read names and files from these fields, which would bypass this check.
        raise BadRequest("send `from`, `files` and the other fields in place of a modelfile")
    if origin := json_body.text_of(document, "from"):
        name = ModelName.parse(origin)
        # With `remote_host` the model answers from that host, so it counts as a cloud model.
        leaves = json_body.text_of(document, "remote_host") and not name.cloud
        yield attrs.evolve(name, tag=f"{name.tag}-cloud") if leaves else name
