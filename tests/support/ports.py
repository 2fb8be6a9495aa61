"""Ports on which nothing listens."""

import contextlib
import socket


def free_ports(count: int) -> list[int]:
    """So many ports of 127.0.0.1, no two of them the same."""
    with contextlib.ExitStack() as probes:
        found = []
        for _ in range(count):
            probe = probes.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            found.append(int(probe.getsockname()[1]))
        return found
