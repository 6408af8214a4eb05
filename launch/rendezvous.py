"""Where the ranks of a job meet: the first node of Slurm's list, by a name or address that resolves, at a port of its own.

torch waits for minutes on a name that does not resolve, so it is resolved here first. Never localhost by way of default.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from msvl.config.errors import ClusterError

FIRST_PORT, PORTS = 12000, 18000
"""Below the range that Linux hands out (32768 on), above well-known ones."""

Resolve = Callable[[str], str | None]
"""Host name -> its address, None when it does not resolve."""


@dataclass(frozen=True)
class Rendezvous:
    """Address and port of rank 0."""

    address: str
    port: int


def resolve(name: str) -> str | None:
    """Return a host's IPv4 or IPv6 address, None when the name does not resolve."""
    try:
        return str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return None


def choose_address(names: Sequence[str], slurm_addresses: Mapping[str, str], resolve: Resolve = resolve) -> str:
    """Return how the other nodes reach the first one.

    Args:
        names: The job's nodes in Slurm's order.
        slurm_addresses: Node -> NodeAddr, by which Slurm itself reaches it.
        resolve: Looks a name up.

    Raises:
        ClusterError: Neither name nor NodeAddr resolves, or they lead back to whoever asks (127.0.0.1).
    """
    first = names[0]
    found = resolve(first)
    if found is not None and not _is_loopback(found):
        return first
    # /etc/hosts of many machines gives their own name 127.0.1.1, which is another machine for every other node.
    address = slurm_addresses.get(first)
    found = resolve(address) if address else None
    if address is None or found is None:
        raise ClusterError(
            f"the job's first node {first} cannot be reached by name, and its NodeAddr in Slurm ({address}) does not resolve "
            "either: its name must be in DNS or /etc/hosts of all nodes"
        )
    if _is_loopback(found) and not all(_is_loopback(resolve(slurm_addresses.get(name, "")) or "") for name in names):
        raise ClusterError(
            f"the job's first node {first} resolves to {found}, which every other node takes for itself: correct /etc/hosts "
            "on the nodes, or NodeAddr in slurm.conf"
        )
    return address


def choose_port(job: int, restart: int, is_free: Callable[[int], bool] | None = None) -> int:
    """Return a port that differs between jobs and between the restarts of one (its orphans may still hold the old one).

    Called on the first node, where the port must be free.
    """
    free = is_free or port_is_free
    start = job + 7919 * restart
    for offset in range(200):
        port = FIRST_PORT + (start + offset) % PORTS
        if free(port):
            return port
    raise ClusterError(f"no free port among 200 from {FIRST_PORT + start % PORTS} on this node")


def port_is_free(port: int) -> bool:
    """Return whether nobody listens at a port of this machine."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
