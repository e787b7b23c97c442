"""Every endpoint of the public listener, one line each.

To add an endpoint, add its line. The rest of the gateway reads these fields and never compares
paths. Facts about Ollama name the file of its source that shows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final, Literal

import attrs

from ollama_gateway.wire.dialects import Dialect, Shape
from ollama_gateway.wire.dialects.anthropic import AnthropicDialect
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.openai import OpenAIDialect
from ollama_gateway.wire.dialects.progress import ProgressDialect
from ollama_gateway.wire.dialects.responses import ResponsesDialect

DIALECTS: Final[tuple[tuple[str, Dialect], ...]] = (
    ("/v1/messages", AnthropicDialect()),
    ("/v1/responses", ResponsesDialect()),
    ("/v1/", OpenAIDialect()),
    ("", OllamaDialect()),
)
"""The dialect of a path, by its beginning; the first match counts."""
PROGRESS: Final[Dialect] = ProgressDialect()

NUM_PREDICT: Final = (("options", "num_predict"),)
"""On `/v1` Ollama still ignores this field (ollama/ollama#17423 would let it override the dialect's
own); a client that sends it alone means the same."""
MAX_TOKENS: Final = (("max_tokens",), *NUM_PREDICT)
MAX_COMPLETION_TOKENS: Final = (("max_tokens",), ("max_completion_tokens",), *NUM_PREDICT)
"""Ollama ignores the second field (openai/openai.go); a client that sends it alone means the same.
"""
MAX_OUTPUT_TOKENS: Final = (("max_output_tokens",), *NUM_PREDICT)


def dialect_of(path: str) -> Dialect:
    """Return the dialect in which a path's errors are written, whether the path exists or not."""
    return next(dialect for prefix, dialect in DIALECTS if path.startswith(prefix))


@attrs.frozen
class Endpoint:
    """One route, and how the gateway treats its requests."""

    path: str
    """Without the segment that `parameter` names."""
    group: str
    """The right it needs: inference, embeddings, read, manage or admin."""
    dialect: Dialect = attrs.field(
        default=attrs.Factory(lambda self: dialect_of(self.path), takes_self=True)
    )
    method: str = "POST"
    answers_head: bool = False
    """Whether HEAD is answered as GET is."""
    parameter: Literal["", "model", "digest"] = ""
    """The further path segment that it takes."""

    operation: Literal["chat", "text_completion", "embeddings", ""] = ""
    """In the words of OpenTelemetry's conventions; empty where no model runs."""
    shape: Shape = attrs.field(factory=dict)
    """Members of a good answer, which has at least one of them."""
    streams_by_default: bool | None = None
    """Ollama's default of `stream`; None where the route never streams."""
    bounds: tuple[tuple[str, ...], ...] = ()
    """The fields that may bound the answer's tokens; Ollama reads the first."""
    inputs: str | None = None
    """The field that holds the texts to embed; None where the route does not embed."""
    reports_usage: bool = True
    """Whether Ollama reports the tokens of a whole answer."""
    takes_load_options: bool = False
    """Whether Ollama reads `options` and `keep_alive` in its body (api/types.go)."""
    loads: bool = False
    """Whether a request without any text only loads or unloads its model."""
    wordless: Mapping[str, object] = attrs.field(factory=dict)
    """What answers such a request, beside the members that all answers of the route have."""
    content_in_parts: bool = False
    """Whether an empty list as a message's content is no text (openai/openai.go, FromChatRequest).
    """
    searches: bool = False
    """Whether a tool of the request may have Ollama search the web."""
    decodes: bool = False
    """Whether Ollama reads bodies compressed with zstd (server/cloud_proxy.go)."""
    compares_case: bool = False
    """Whether Ollama compares the model's name with case (server/routes.go, EmbeddingsHandler)."""

    names: tuple[str, ...] = ("model",)
    """The fields that name models; first the model that is used, made, changed or sent."""
    has_legacy_name: bool = False
    """Whether `name` is read where `model` is empty."""
    changes_models: bool = False
    """Whether the backend lists other models afterwards."""

    is_account: bool = False
    """Whether it asks for the account of one backend, which the request must name."""

    is_slotless: bool = False
    """Whether a request costs a backend so little that it takes no slot."""
    is_rewritten: bool = False
    """Whether the gateway changes a whole answer, which it therefore holds to its end."""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that it answers."""
        return ("HEAD", self.method) if self.answers_head else (self.method,)


CHAT: Final = {"message": "{"}
GENERATE: Final = {"response": '"'}
CHOICES: Final = {"choices": "[{"}
MESSAGE: Final = {"content": "[", "stop_reason": '"'}
"""`content` is null if Ollama knew none of the request's blocks (anthropic/anthropic.go)."""
DESCRIPTION: Final = {"model_info": "{", "modelfile": '"'}
"""Newer versions always have the first, older ones the second."""

_native = partial(
    Endpoint,
    group="inference",
    operation="chat",
    streams_by_default=True,
    bounds=NUM_PREDICT,
    takes_load_options=True,
    loads=True,
)
_openai = partial(
    Endpoint,
    group="inference",
    operation="chat",
    streams_by_default=False,
    loads=True,
    decodes=True,
)
_searching = partial(
    Endpoint,
    group="inference",
    operation="chat",
    streams_by_default=False,
    searches=True,
    decodes=True,
)
_embeddings = partial(Endpoint, group="embeddings", operation="embeddings")
_describing = partial(Endpoint, group="read", is_slotless=True, is_rewritten=True)
_management = partial(Endpoint, group="manage")
_making = partial(
    _management,
    dialect=PROGRESS,
    streams_by_default=True,
    has_legacy_name=True,
    changes_models=True,
)
_listing = partial(Endpoint, group="read", method="GET", answers_head=True)

INFERENCE: Final = (
    _native("/api/chat", shape=CHAT, wordless={"message": {"role": "assistant", "content": ""}}),
    _native(
        "/api/generate", operation="text_completion", shape=GENERATE, wordless={"response": ""}
    ),
    _embeddings(
        "/api/embed",
        inputs="input",
        shape={"embeddings": "[[9"},
        takes_load_options=True,
        loads=True,
        wordless={"embeddings": []},
    ),
    _embeddings(
        "/api/embeddings",
        inputs="prompt",
        shape={"embedding": "[9"},
        reports_usage=False,
        takes_load_options=True,
        loads=True,
        wordless={"embedding": []},
        compares_case=True,
    ),
    _openai(
        "/v1/chat/completions", shape=CHOICES, bounds=MAX_COMPLETION_TOKENS, content_in_parts=True
    ),
    _openai("/v1/completions", operation="text_completion", shape=CHOICES, bounds=MAX_TOKENS),
    _embeddings("/v1/embeddings", inputs="input", shape={"data": "[{"}, decodes=True),
    _searching("/v1/responses", shape={"output": "[{"}, bounds=MAX_OUTPUT_TOKENS),
    _searching("/v1/messages", shape=MESSAGE, bounds=MAX_TOKENS),
)
COUNTING: Final = (Endpoint("/v1/messages/count_tokens", "inference", decodes=True),)
DESCRIPTIONS: Final = (
    _describing("/api/show", shape=DESCRIPTION, has_legacy_name=True),
    _describing(
        "/v1/models", shape={"owned_by": '"'}, method="GET", parameter="model", decodes=True
    ),
)
MANAGEMENT: Final = (
    _making("/api/pull"),
    _making("/api/push", changes_models=False),
    _making("/api/create", names=("model", "from")),
    _management("/api/copy", names=("destination", "source"), changes_models=True),
    _management("/api/delete", method="DELETE", has_legacy_name=True, changes_models=True),
    _management("/api/me", is_account=True, names=()),
    _management("/api/blobs", method="HEAD", parameter="digest"),
    _management("/api/blobs", parameter="digest"),
)
LISTINGS: Final = (
    _listing("/", method="HEAD", answers_head=False),
    _listing("/", answers_head=False),
    _listing("/api/tags"),
    _listing("/api/ps", answers_head=False),
    _listing("/api/version"),
    _listing("/api/status"),
    _listing("/api/experimental/model-recommendations"),
    _listing("/v1/models", decodes=True),
)
