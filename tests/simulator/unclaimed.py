"""Recordings of a real Ollama that the simulator does not claim, each with its reason."""

from __future__ import annotations

from tests.simulator.recording import Probe

_FORMAT = (
    "it was recorded with a runner that accepted any format; the real one refuses this (facts.txt)"
)
_HOST = "it does not check Host: tests use host names of their own"
_NETWORK = "its registry is a list of models, not another server on a network"

NOT_CLAIMED = {
    "format bad | POST /api/chat": _FORMAT,
    "audio | POST /v1/audio/transcriptions": "it supports no audio and no multipart forms",
    "evil host | GET /api/tags": _HOST,
    "evil host OPTIONS | OPTIONS /api/tags": _HOST,
    "public ip host | GET /api/version": _HOST,
    "pull http | POST /api/pull": _NETWORK,
    "pull conn refused | POST /api/pull": _NETWORK,
    "pull conn refused nostream | POST /api/pull": _NETWORK,
}
"""By label, method and path."""

MEASURED = {
    "cancel-before-first-chunk:": "Go notices a leaving client late if its body ends late; the "
    "simulator reads every body first and notices at once (test_in_flight.py)",
    "cancel:": "the simulator notices a leaving client at once (test_in_flight.py)",
    "ttfb": "no header before the first token: shown in test_scripts.py under virtual time",
    "big": "a body of 60 MB is served; nothing in the simulator bounds it",
    "halfclose:": "a half-close ends a connection here, and leaves one hanging there",
    "h2 prior knowledge:": "answered with 400 and a close here too, with an additional text",
    "http/1.0 stream:": "shown in test_simulator.py",
}
"""By the start of a measurement: why it is no probe to replay."""


def reason(probe: Probe) -> str | None:
    """Return why a probe is not claimed; None if it is."""
    return NOT_CLAIMED.get(probe.title)
