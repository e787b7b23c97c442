"""The error that a client gets when no attempt gave a good chunk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import httpx

from ollama_gateway.backends.health import BackendFault
from ollama_gateway.backends.outlook import UNKNOWN, Outlook
from ollama_gateway.errors import GatewayError, ModelForbidden, Unavailable, UpstreamFailed
from ollama_gateway.flow.failures import FULL_STATUSES, AttemptFailed
from ollama_gateway.reasons import Reason

NOTHING_REACHED: Final = {Reason.CONNECT_FAILED, Reason.BACKEND_DOWN}


def verdict(
    failures: Sequence[AttemptFailed], requested_name: str, outlook: Outlook
) -> GatewayError:
    """Return the error for these failed attempts: the last one's, in general.

    A full backend that does not say when to come back leaves that to the outlook.

    A 404 says only that one backend lost the model, so it counts only if there is nothing else.
    """
    if not failures:
        return Unavailable()
    found = [failure for failure in failures if failure.status != httpx.codes.NOT_FOUND]
    if not found:
        return ModelForbidden(requested_name, reason=Reason.BACKEND_LACKS_MODEL)
    reached = [failure for failure in found if failure.reason not in NOTHING_REACHED]
    if not reached:
        return Unavailable()
    last = found[-1]
    if all(failure.fault is BackendFault.FULL for failure in reached):
        last = reached[-1]  # a full backend says when to come back; one that is down does not
    estimate = (outlook.seconds or UNKNOWN) if last.status in FULL_STATUSES else None
    passed_on = last.status if last.status in FULL_STATUSES or (last.status or 0) >= 500 else None  # noqa: PLR2004
    return UpstreamFailed(
        last.message,
        reason=last.reason,
        retry_after=last.retry_after or estimate,
        status=passed_on or 502,
    )
