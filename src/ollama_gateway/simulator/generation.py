"""The model runner: tokens at their times, then the figures; or the failure a script asks for.

An iterator, not a generator: leaving it half-way needs no clean-up. It ends without `Done` where
the script says `no_done`, which Ollama does too when a runner aborts.
"""

from __future__ import annotations

from typing import Protocol

import anyio
import attrs

from ollama_gateway.simulator.clock import nanoseconds
from ollama_gateway.simulator.dialect import Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.script import Script

FAILURE = "an error was encountered while running the model: boom"


class RunnerFailed(Refusal):
    """The runner ended with an error."""


@attrs.frozen
class Token:
    """One token of the answer."""

    text: str


@attrs.frozen
class Done:
    """The end of an answer; times in nanoseconds."""

    reason: str
    total: int
    load: int
    prompt_tokens: int
    prompt_time: int
    tokens: int
    time: int

    def figures(self) -> dict[str, int]:
        """Give the metrics under their names on the wire, in their order."""
        return {
            "total_duration": self.total,
            "load_duration": self.load,
            "prompt_eval_count": self.prompt_tokens,
            "prompt_eval_duration": self.prompt_time,
            "eval_count": self.tokens,
            "eval_duration": self.time,
        }


class Rendering(Protocol):
    """How a dialect writes a stream: one record each, but for the end, which may be several."""

    def token(self, text: str) -> bytes:
        """Write a token."""

    def done(self, done: Done) -> list[bytes]:
        """Write the end."""

    def failed(self, message: str) -> bytes:
        """Write a failure in the middle."""


@attrs.define(eq=False)
class Generation:
    """Yields `Token`s and, unless it is told otherwise, one `Done`.

    Args:
        library: told of the prompt at once, and of each token when it is generated.
        model: must be in use.
        script: what goes wrong.
        load: the seconds that loading took.
        prompt: its size in tokens.
        limit: the most tokens to say; 0 or less for all there are.

    Raises:
        RunnerFailed: from the iteration, where the script says so.

    """

    _library: Library
    _model: Model
    _script: Script
    _load: float
    _prompt: int
    _limit: int
    _spoken: int = 0
    _is_over: bool = False
    _start: float = attrs.field(factory=anyio.current_time)
    _first: float = attrs.field(factory=anyio.current_time)

    def __attrs_post_init__(self) -> None:
        self._library.prompt_tokens += self._prompt

    @property
    def _tokens(self) -> tuple[str, ...]:
        tokens = self._model.tokens
        return tokens[: self._limit] if self._limit > 0 else tokens

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Token | Done:
        if self._is_over:
            raise StopAsyncIteration
        if self._spoken == self._script.error_after:
            await self._wait()
            raise RunnerFailed(500, self._script.error or FAILURE)
        if self._spoken < len(self._tokens):
            await self._wait()
            self._spoken += 1
            self._library.completion_tokens += 1
            return Token(self._tokens[self._spoken - 1])
        if not self._tokens:
            await self._wait()
        self._is_over = True
        if self._script.no_done:
            raise StopAsyncIteration
        return self._done()

    async def collect(self) -> tuple[str, Done | None]:
        """Run to the end; give the whole text and the figures."""
        texts, done = [], None
        async for piece in self:
            if isinstance(piece, Token):
                texts.append(piece.text)
            else:
                done = piece
        return "".join(texts), done

    async def _wait(self) -> None:
        await anyio.sleep(self._model.between_tokens if self._spoken else self._model.first_token)
        if not self._spoken:
            self._first = anyio.current_time()

    def _done(self) -> Done:
        now = anyio.current_time()
        is_cut = len(self._tokens) < len(self._model.tokens)
        return Done(
            reason="length" if is_cut else "stop",
            total=nanoseconds(now - self._start + self._load),
            load=nanoseconds(self._load),
            prompt_tokens=self._prompt,
            prompt_time=nanoseconds(self._first - self._start),
            tokens=len(self._tokens),
            time=nanoseconds(now - self._first),
        )


async def stream(
    exchange: Exchange, generation: Generation, kind: str, rendering: Rendering
) -> None:
    """Stream an answer; the head goes out with the first token, so an early error has its status.

    Raises:
        RunnerFailed: before anything was sent.

    """
    has_begun = False
    try:
        async for piece in generation:
            if not has_begun:
                exchange.start(200, kind)
                has_begun = True
            if isinstance(piece, Done):
                await _end(exchange, rendering.done(piece))
                return
            await exchange.chunk(rendering.token(piece.text))
    except RunnerFailed as failure:
        if not has_begun:
            raise
        await exchange.finish(rendering.failed(failure.message))
        return
    if not has_begun:
        exchange.start(200, kind)
    await exchange.finish()


async def _end(exchange: Exchange, records: list[bytes]) -> None:
    *earlier, last = records
    for record in earlier:
        await exchange.chunk(record)
    await exchange.finish(last)
