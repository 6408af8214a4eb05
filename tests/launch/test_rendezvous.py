"""Where ranks meet: names that resolve, names that do not, names that lead back to oneself."""

from __future__ import annotations

import socket

import pytest

from launch.rendezvous import choose_address, choose_port, port_is_free, resolve
from msvl.config.errors import ClusterError

NAMES = ["n1", "n2"]


def known(**addresses: str):
    return lambda name: addresses.get(name.replace(".", "_"), name if name[0].isdigit() else None)


def test_a_name_that_resolves_is_taken() -> None:
    assert choose_address(NAMES, {}, known(n1="10.0.0.1")) == "n1"


def test_else_the_address_by_which_slurm_reaches_the_node() -> None:
    assert choose_address(NAMES, {"n1": "10.0.0.1", "n2": "10.0.0.2"}, known()) == "10.0.0.1"


def test_a_name_that_leads_back_to_oneself_is_not_taken() -> None:
    assert choose_address(NAMES, {"n1": "10.0.0.1", "n2": "10.0.0.2"}, known(n1="127.0.1.1")) == "10.0.0.1"


def test_never_localhost_for_other_machines() -> None:
    with pytest.raises(ClusterError, match="n1 resolves to 127.0.1.1, which every other node takes for itself"):
        choose_address(NAMES, {"n1": "n1", "n2": "10.0.0.2"}, known(n1="127.0.1.1"))


def test_nodes_of_one_machine_may_meet_there() -> None:
    assert choose_address(NAMES, {"n1": "127.0.0.1", "n2": "127.0.0.1"}, known()) == "127.0.0.1"


def test_a_node_that_cannot_be_found_is_named_at_once() -> None:
    with pytest.raises(
        ClusterError, match=r"first node n1 cannot be reached by name, and its NodeAddr in Slurm \(n1\)"
    ):
        choose_address(NAMES, {"n1": "n1"}, known())


def test_unknown_names_do_not_resolve() -> None:
    assert resolve("no-such-host.invalid") is None
    assert resolve("127.0.0.1") == "127.0.0.1"


def test_jobs_and_their_restarts_get_different_ports() -> None:
    always = lambda port: True  # noqa: E731
    ports = [choose_port(job, restart, always) for job in range(1000, 1050) for restart in range(4)]
    assert len(set(ports)) == len(ports)
    assert all(12000 <= port < 32768 for port in ports)


def test_a_port_in_use_is_passed_over() -> None:
    port = choose_port(17, 0)
    with socket.create_server(("", port)):
        assert not port_is_free(port)
        assert choose_port(17, 0) != port
