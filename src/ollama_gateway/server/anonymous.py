"""Requests without a key that are served all the same: as one key, from some networks.

Editors that can send no key are let in by where they are. A browser is there too, with pages of
anybody: so what a page of elsewhere makes it send is not anonymous. The rules, all of which hold:

* The client's address is known and in the networks; that of a trusted proxy is nobody's address.
* The request brings no credential at all; a wrong one is a wrong one.
* Its `Origin`, which browsers add to whatever could change something, is allowed, or is the
  gateway's own.
* Without TLS, its `Host` is no name that a stranger can own, or a page of his, opened under such a
  name, would be of the gateway's own origin as soon as his DNS points here (DNS rebinding). With
  TLS the certificate keeps him out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import attrs

from ollama_gateway.server.cors import origin_of
from ollama_gateway.wire.headers import Headers, has_credential
from ollama_gateway.wire.networks import Network, address_of, is_in
from ollama_gateway.wire.origins import Origins

SCHEMES: Final = ("http://", "https://")
UNREGISTERED_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa")
"""Ends of names that no registry sells: RFC 6761, 6762, 8375, and ICANN's of 2024."""

_HOST: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<name>[^:\[\]]*))(?::[0-9]{1,5})?")


@attrs.frozen
class Anonymous:
    """Whom to let in without a key, and as which."""

    key: str | None = attrs.field(default=None, repr=False)
    networks: Sequence[Network] = ()
    proxies: Sequence[Network] = ()
    origins: Origins = attrs.field(factory=Origins)

    def credential(self, client: str, headers: Headers, *, is_tls: bool) -> str | None:
        """The key that a request without one is served as."""
        if not self._is_eligible(client, headers):
            return None
        return None if self._fault(headers, is_tls=is_tls) else self.key

    def obstacle(self, client: str, headers: Headers, *, is_tls: bool) -> str | None:
        """Why an address that may come without a key may not so: a word for the operator."""
        return self._fault(headers, is_tls=is_tls) if self._is_eligible(client, headers) else None

    def _is_eligible(self, client: str, headers: Headers) -> bool:
        if self.key is None or has_credential(headers):
            return False
        address = address_of(client)
        return is_in(address, self.networks) and not is_in(address, self.proxies)

    def _fault(self, headers: Headers, *, is_tls: bool) -> str | None:
        host = b",".join(v for n, v in headers if n.lower() == b"host").decode("ascii", "replace")
        if not (is_tls or self._is_own(host)):
            return "foreign_host"
        origin = origin_of(headers)
        is_own = origin.lower() in {scheme + host.lower() for scheme in SCHEMES}
        return None if not origin or is_own or self.origins.allow(origin) else "foreign_origin"

    def _is_own(self, host: str) -> bool:
        """Whether only the operator, or nobody, can make a name lead here."""
        match = _HOST.fullmatch(host.lower())
        if match is None:
            return False
        name = match["v6"] or match["name"] or ""
        if (
            match["v6"]
            or address_of(name)
            or "." not in name
            or name.endswith(UNREGISTERED_SUFFIXES)
        ):
            return True
        return any(self.origins.allow(scheme + host) for scheme in SCHEMES)
