"""The model runner: tokens at their times, then the figures; or the failure a script asks for.

Each dialect reads a request into a `Job` and brings a `Rendering`; `run` does the work common to
all.

The runner is an iterator, not a generator: leaving it half-way needs no clean-up. It ends without
`Done` if the script says `no_done`, as Ollama's does when a runner aborts.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Protocol

import anyio
import attrs

from ollama_gateway.simulator.answers import Piece
from ollama_gateway.simulator.clock import nanoseconds
from ollama_gateway.simulator.dialect import Dialect, Refusal
from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.library import Library
from ollama_gateway.simulator.model import Model
from ollama_gateway.simulator.prefix_cache import Held
from ollama_gateway.simulator.prompts import Prompt
from ollama_gateway.simulator.runners import Loaded
from ollama_gateway.simulator.script import Script

MOST_REPEATS = 31
"""Equal tokens in a row, after which Ollama ends an answer."""
FAILURE = "an error was encountered while running the model: boom"


class RunnerFailed(Refusal):
    """The runner ended with an error; a stream reports it in chunks, as the handler had begun."""

    is_late = True


@attrs.frozen
class Done:
    """The end of an answer; times in nanoseconds.

    Args:
        prompt_tokens: all tokens of the prompt, cached ones included.
        cached: the cached ones; None if not reported.

    """

    reason: str
    total: int
    load: int
    prompt_tokens: int
    cached: int | None
    prompt_time: int
    tokens: int
    time: int

    def figures(self) -> dict[str, int]:
        """Return the metrics under their names on the wire, in their order."""
        cached = {} if self.cached is None else {"prompt_eval_cached_count": self.cached}
        return {
            "total_duration": self.total,
            "load_duration": self.load,
            "prompt_eval_count": self.prompt_tokens,
            **cached,
            "prompt_eval_duration": self.prompt_time,
            "eval_count": self.tokens,
            "eval_duration": self.time,
        }


@attrs.frozen
class Job:
    """A handler's order to the runner.

    Args:
        model: must be hosted.
        says: the complete answer to this request.
        prompt: what it reads first.
        limit: the most tokens to write; 0 or less for all there are.
        keep_alive: the request's demand on the model's residency.
        fault: the runner's refusal of the request, after the load.

    """

    model: Model
    says: tuple[Piece, ...]
    prompt: Prompt
    limit: int
    is_streamed: bool
    keep_alive: float | None = None
    fault: Refusal | None = None


class Rendering(Protocol):
    """A dialect's form of an answer: a stream's records, or one object."""

    def piece(self, piece: Piece) -> list[bytes]:
        """Write the records for a token."""

    def done(self, done: Done) -> list[bytes]:
        """Write the end."""

    def failed(self, message: str) -> list[bytes]:
        """Write a failure in the middle."""

    def whole(self, pieces: list[Piece], done: Done | None) -> dict[str, object]:
        """Return the whole answer as one object; without `done` if the runner sent no end."""


async def run(
    library: Library, exchange: Exchange, dialect: Dialect, job: Job, rendering: Rendering
) -> None:
    """Load the model, run it, and send its answer.

    Raises:
        Refusal: before anything was sent.

    """
    async with library.use(job.model, job.keep_alive) as loaded:
        if job.fault:
            raise job.fault
        generation = Generation(library, job, exchange.script, loaded)
        with generation.in_slot():
            if job.is_streamed:
                await _stream(exchange, generation, dialect, rendering)
                return
            pieces, done = await generation.collect()
    await dialect.answer(exchange, rendering.whole(pieces, done))


@attrs.define(eq=False)
class Generation:
    """Yields `Piece`s and, by default, one `Done`.

    Args:
        library: counts the prompt at once, and each token when it is generated.
        job: its model must be in use.
        script: the faults.
        loaded: its model.

    Raises:
        RunnerFailed: from the iteration, if the script says so.

    """

    _library: Library
    _job: Job
    _script: Script
    _loaded: Loaded
    _cached: int = 0
    """Tokens of the prompt that need not be read."""
    _says: tuple[Piece, ...] = attrs.field(init=False)
    _spoken: int = 0
    _is_over: bool = False
    _start: float = attrs.field(factory=anyio.current_time)
    _first: float = attrs.field(factory=anyio.current_time)

    def __attrs_post_init__(self) -> None:
        self._library.prompt_tokens += self._job.prompt.tokens

    @contextlib.contextmanager
    def in_slot(self) -> Iterator[None]:
        """Hold a slot of the prefix cache, if the model has one, and fill it."""
        model, prompt = self._job.model, self._job.prompt
        if model.cache is None:
            yield
            return
        slot, self._cached = self._loaded.cache.take(prompt, model.cache)
        self._library.cached_tokens += self._cached
        try:
            yield
        finally:
            slot.is_busy = False
            said = "".join(piece.text for piece in self._says[: self._spoken])
            texts = (*prompt.texts, said) if said else prompt.texts
            slot.held = Held(texts, self._read() + self._spoken)

    def _read(self) -> int:
        """Return how many tokens of the prompt are in the slot."""
        prompt, speed = self._job.prompt.tokens, self._job.model.prompt_speed
        if self._spoken or math.isinf(speed):
            return prompt
        elapsed = anyio.current_time() - self._start
        return min(prompt, self._cached + int(elapsed * speed))

    @_says.default
    def _within_limits(self) -> tuple[Piece, ...]:
        if self._script.loops:
            return self._job.says[:1] * MOST_REPEATS
        limits = [limit for limit in (self._job.limit, self._script.length_after or 0) if limit > 0]
        return self._job.says[: min(limits)] if limits else self._job.says

    def __aiter__(self) -> Generation:
        return self

    async def __anext__(self) -> Piece | Done:
        if self._is_over:
            raise StopAsyncIteration
        if self._spoken == self._script.error_after:
            await self._wait()
            raise RunnerFailed(self._script.status or 500, self._script.error or FAILURE)
        if self._spoken < len(self._says):
            await self._wait()
            self._spoken += 1
            self._library.completion_tokens += 1
            return self._says[self._spoken - 1]
        if not self._says:
            await self._wait()
        self._is_over = True
        if self._script.no_done or self._script.loops:
            raise StopAsyncIteration
        return self._done()

    async def collect(self) -> tuple[list[Piece], Done | None]:
        """Run to the end; return the complete answer and the figures."""
        pieces, done = [], None
        async for step in self:
            if isinstance(step, Piece):
                pieces.append(step)
            else:
                done = step
        return pieces, done

    async def _wait(self) -> None:
        model = self._job.model
        if self._spoken:
            await anyio.sleep(model.between_tokens)
            return
        fresh = self._job.prompt.tokens - self._cached
        await anyio.sleep(fresh / model.prompt_speed + model.first_token)
        self._first = anyio.current_time()

    def _done(self) -> Done:
        now = anyio.current_time()
        is_cut = len(self._says) < len(self._job.says)
        prompt = self._job.prompt.tokens
        return Done(
            reason="length" if is_cut else "stop",
            total=nanoseconds(now - self._start + self._loaded.seconds),
            load=nanoseconds(self._loaded.seconds),
            prompt_tokens=prompt,
            cached=self._told(prompt),
            prompt_time=nanoseconds(self._first - self._start),
            tokens=len(self._says),
            time=nanoseconds(now - self._first),
        )

    def _told(self, prompt: int) -> int | None:
        """Return the cached tokens that are reported; None if none are."""
        model = self._job.model
        if model.cached_prompt is not None:
            return min(model.cached_prompt, prompt)
        return self._cached if model.cache is not None and model.tells_cached else None


async def _stream(
    exchange: Exchange, generation: Generation, dialect: Dialect, rendering: Rendering
) -> None:
    """Stream an answer; the head goes out with the first token, so an early error has its status.

    Raises:
        RunnerFailed: before anything was sent.

    """
    has_begun = False
    try:
        async for step in generation:
            if not has_begun:
                dialect.start(exchange)
                has_begun = True
            if isinstance(step, Done):
                await _end(exchange, rendering.done(step))
                return
            for record in rendering.piece(step):
                await exchange.chunk(record)
    except RunnerFailed as failure:
        if not has_begun:
            raise
        await _end(exchange, rendering.failed(failure.message))
        return
    if not has_begun:
        dialect.start(exchange)
    await exchange.finish()


async def _end(exchange: Exchange, records: list[bytes]) -> None:
    for record in records[:-1]:
        await exchange.chunk(record)
    await exchange.finish(records[-1] if records else b"")
