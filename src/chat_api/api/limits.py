"""Limit on failed authentications per address, counted in memory by each process."""

import ipaddress
import math
import time
from collections.abc import Callable

from cachetools import LRUCache

from chat_api.errors import TooManyFailures

_WINDOW_SECONDS = 60
# Upper bound of tracked addresses, about 300 bytes each; a larger botnet needs a firewall.
_MOST_ADDRESSES = 20_000


class Failures:
    """Requests that failed authentication, by address, in the minute since the first of them.

    Only failures count: any number of users may share an address, and a user whose token is
    remembered is never asked for one. 0: any number.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._counted: LRUCache[str, tuple[float, int]] = LRUCache(_MOST_ADDRESSES)

    def check(self, host: str | None) -> None:
        """Raise TooManyFailures if this host's network has reached the limit."""
        if self._most and host is not None:
            began, count = self._counted.get(network_of(host), (0.0, 0))
            left = began + _WINDOW_SECONDS - self._clock()
            if count >= self._most and left > 0:
                raise TooManyFailures(self._most, math.ceil(left))

    def add(self, host: str | None) -> None:
        """Count a failed authentication of this host."""
        if self._most and host is not None:
            network, now = network_of(host), self._clock()
            began, count = self._counted.get(network, (now, 0))
            if now - began >= _WINDOW_SECONDS:
                began, count = now, 0
            self._counted[network] = (began, count + 1)


def network_of(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 of an IPv6 subscriber."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host[:64]
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()
