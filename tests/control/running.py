"""Requests in flight, made by hand, whose records say what a test wants to see listed."""

from __future__ import annotations

from typing import Any, cast

import attrs
import trio

from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.endpoints import INFERENCE
from ollama_gateway.flow.in_flight import InFlight, RunningRequest
from ollama_gateway.keys.key import Principal
from ollama_gateway.ledger.record import Ledger


@attrs.define
class Client:
    """The client's side: whether its answer has begun."""

    has_started: bool = False


def begun(
    in_flight: InFlight, request_id: str, *, key: str = "k1", arrived: float = 0.0, **known: Any
) -> RunningRequest:
    """Begin a chat of a key, named as its id with `name of`, whose record knows these values."""
    running = in_flight.begin(request_id, trio.CancelScope())
    client = cast("Any", Client())
    ask = Ask(request_id, INFERENCE[0], None, [], "192.0.2.7", arrived, client)
    running.ask = ask
    record = Ledger(()).record(Principal(key, f"name of {key}", ("*",), frozenset()), ask).record
    for name, value in known.items():
        setattr(record, name, value)
    return running
