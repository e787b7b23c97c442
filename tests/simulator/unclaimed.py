"""What was recorded of a real Ollama and the simulator does not claim, each with its reason."""

from __future__ import annotations

from tests.simulator.recording import Probe

_FORMAT = (
    "it was recorded with a runner that took any format; the real one refuses this (facts.txt)"
)
_HOST = "it looks at no Host: tests reach it under names of their own"
_NETWORK = "its registry is a list of models, not another server on a network"

NOT_CLAIMED = {
    "format bad | POST /api/chat": _FORMAT,
    "audio | POST /v1/audio/transcriptions": "it hears nothing: no audio, no multipart forms",
    "evil host | GET /api/tags": _HOST,
    "evil host OPTIONS | OPTIONS /api/tags": _HOST,
    "public ip host | GET /api/version": _HOST,
    "pull http | POST /api/pull": _NETWORK,
    "pull conn refused | POST /api/pull": _NETWORK,
    "pull conn refused nostream | POST /api/pull": _NETWORK,
}
"""By label, method and path."""

MEASURED = {
    "cancel-before-first-chunk:": "Go notices a leaving client late where a body ends late; the "
    "simulator reads every body first and notices at once (test_in_flight.py)",
    "cancel:": "the simulator notices a leaving client at once (test_in_flight.py)",
    "ttfb": "no header before the first token: shown in test_scripts.py under virtual time",
    "big": "a body of 60 MB is served; nothing in the simulator bounds it",
    "halfclose:": "a half-close ends a connection here, and leaves one hanging there",
    "h2 prior knowledge:": "answered with 400 and a close here too, with a text beside it",
    "http/1.0 stream:": "shown in test_simulator.py",
}
"""By how a measurement begins: why it is no probe to be replayed."""


def reason(probe: Probe) -> str | None:
    """Say why a probe is not claimed; None where it is."""
    return NOT_CLAIMED.get(probe.title)
