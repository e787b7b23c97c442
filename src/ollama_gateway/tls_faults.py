"""Words for the errors of TLS with a server: a backend, or Redis. OpenSSL's are for programmers."""

from __future__ import annotations

import ssl
from typing import Final

CERTIFICATE_FAULTS: Final = {
    10: "its certificate has expired",
    62: "its certificate is for another name",
    64: "its certificate is for another address",
}
"""By OpenSSL's number (x509_vfy.h); with any other number, the certificate is not trusted."""


ALERTS: Final = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a client certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not accept the client certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept the client certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept the client certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it does not accept the client certificate",
}
"""Alerts that a server sends, by OpenSSL's name (sslerr.h); TLS 1.2 tells less than 1.3."""


def tls_fault(error: BaseException | None) -> str | None:
    """Return the gateway's words for the TLS error among an error's causes, or None."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return CERTIFICATE_FAULTS.get(error.verify_code, "its certificate is not trusted")
        if isinstance(error, ssl.SSLError):
            return ALERTS.get(error.reason, "it does not speak TLS as it should")
        error = error.__cause__ or error.__context__
    return None
