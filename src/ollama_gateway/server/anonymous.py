"""Serve requests without a key as one configured key, if they come from certain networks.

Editors that cannot send a key are admitted by their network. Browsers in that network show pages
from anywhere, so a request that a foreign page makes a browser send must not be admitted. A request
is admitted only if all of these hold:

* The client's address is known and in the networks. The address of a trusted proxy does not count:
  it is not the client's.
* The request carries no credential. A wrong credential is refused.
* Its `Origin`, which browsers add to every request that could change something, is allowed or is
  the gateway's own.
* Without TLS, its `Host` is not a name that a stranger can own. Otherwise a page under such a name
  gets the gateway's own origin as soon as its owner's DNS points here (DNS rebinding). With TLS the
  certificate prevents this.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import attrs

from ollama_gateway.reasons import Reason
from ollama_gateway.server.cors import origin_of
from ollama_gateway.wire.headers import Headers, has_credential
from ollama_gateway.wire.networks import Network, address_of, is_in
from ollama_gateway.wire.origins import Origins

SCHEMES: Final = ("http://", "https://")
UNREGISTERED_SUFFIXES: Final = (".localhost", ".local", ".internal", ".home.arpa")
"""Suffixes that no registry sells: RFC 6761, 6762, 8375, and ICANN's `.internal` of 2024."""

_HOST: Final = re.compile(r"(?:\[(?P<v6>[^\[\]]+)\]|(?P<name>[^:\[\]]*))(?::[0-9]{1,5})?")


@attrs.frozen
class Anonymous:
    """Which requests are served without a key of their own, and as which key."""

    key: str | None = attrs.field(default=None, repr=False)
    networks: Sequence[Network] = ()
    proxies: Sequence[Network] = ()
    origins: Origins = attrs.field(factory=Origins)

    def credential(self, client: str, headers: Headers, *, is_tls: bool) -> str | None:
        """Return the key as which a request without a key is served; None if it is not."""
        if not self._is_eligible(client, headers):
            return None
        return None if self._fault(headers, is_tls=is_tls) else self.key

    def obstacle(self, client: str, headers: Headers, *, is_tls: bool) -> Reason | None:
        """Return the reason why a request from an eligible address is not served without a key.

        None if it is served, or if the request is not eligible at all.
        """
        return self._fault(headers, is_tls=is_tls) if self._is_eligible(client, headers) else None

    def _is_eligible(self, client: str, headers: Headers) -> bool:
        if self.key is None or has_credential(headers):
            return False
        address = address_of(client)
        return is_in(address, self.networks) and not is_in(address, self.proxies)

    def _fault(self, headers: Headers, *, is_tls: bool) -> Reason | None:
        host = b",".join(v for n, v in headers if n.lower() == b"host").decode("ascii", "replace")
        if not (is_tls or self._is_own(host)):
            return Reason.FOREIGN_HOST
        origin = origin_of(headers)
        is_own = origin.lower() in {scheme + host.lower() for scheme in SCHEMES}
        return None if not origin or is_own or self.origins.allow(origin) else Reason.FOREIGN_ORIGIN

    def _is_own(self, host: str) -> bool:
        """Return True if no stranger can own the name: an address, a local or an allowed name."""
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
