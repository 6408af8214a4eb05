"""Before training, on every node, in seconds and without torch: the same code, the shards, the disk, the GPUs, each other.

Every node writes what it found into one folder of the shared disk; the job's batch process reads it and names the node that
is missing or has a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from launch.cluster import ROOT
from launch.snapshot import code_hash
from msvl.config.errors import ClusterError, MsvlError
from msvl.config.load import load_config
from msvl.environment import LaunchedRank, accelerators
from msvl.training.config import PretrainConfig
from msvl.training.hub import default_cache, missing_names
from msvl.training.prepare import prepare

PATIENCE_SECONDS = 60
"""A node that has not come by then does not come."""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; the job's batch process writes these words, nobody types them."""
    parser = argparse.ArgumentParser(prog="python -m launch.preflight", description="Check one node of a job.")
    parser.add_argument("--folder", type=Path, required=True, help="where the reports meet")
    parser.add_argument("--config", required=True, help="resolved configuration")
    parser.add_argument("--code-hash", required=True, help="hash of the code that was submitted")
    parser.add_argument("--address", required=True, help="where the first node is")
    parser.add_argument("--port", type=int, required=True, help="where it listens")
    parser.add_argument("--nodes", required=True, help="names of all nodes, separated by commas")
    parser.add_argument("--ranks-per-node", type=int, required=True, help="ranks on each")
    parser.add_argument("--gpus", type=int, required=True, help="GPUs that the node should have")
    parser.add_argument("--min-free-gb", type=float, required=True, help="free disk of the run folder in 10^9 bytes")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Check this node and write its report; what is wrong is said by the batch process."""
    arguments = build_parser().parse_args(argv)
    names = arguments.nodes.split(",")
    name = os.environ.get("SLURMD_NODENAME", socket.gethostname())
    faults = node_faults(arguments, len(names))
    try:
        if name == names[0]:
            missing = gather(arguments.port, names[1:])
            faults += [f"node {other} did not reach it at {arguments.address}:{arguments.port}" for other in missing]
        else:
            greet(arguments.address, arguments.port, name)
    except OSError as error:
        faults.append(f"it does not reach the first node at {arguments.address}:{arguments.port}: {error}")
    write_report(arguments.folder, name, faults)
    return 0


def node_faults(arguments: argparse.Namespace, nodes: int) -> list[str]:
    """Return what is wrong on this node, as sentences; the network is not asked."""
    faults = []
    if code_hash(ROOT) != arguments.code_hash:
        faults.append(
            f"its code in {ROOT} is not what was submitted: the disks of the nodes differ, or somebody edited it"
        )
    if arguments.gpus and accelerators() != arguments.gpus:
        faults.append(f"it shows {accelerators()} GPUs instead of {arguments.gpus}")
    free = shutil.disk_usage(arguments.folder).free / 1e9
    if free < arguments.min_free_gb:
        faults.append(
            f"{free:.1f} GB are free for the run folder, MIN_FREE_GB asks for {arguments.min_free_gb:g}: make room, or point "
            "run.folder elsewhere"
        )
    faults += needs(load_config(arguments.config, [], PretrainConfig), default_cache(), gpus=arguments.gpus)
    world = nodes * arguments.ranks_per_node
    alone = LaunchedRank(rank=0, local_rank=0, world_size=world, local_world_size=arguments.ranks_per_node)
    try:
        prepare(arguments.config, [], resume=True, rank=alone, ask_hub=False)
    except MsvlError as error:
        faults.append(str(error))
    return faults


def needs(config: PretrainConfig, cache: Path, *, gpus: int) -> list[str]:
    """Return what a configuration needs and this machine lacks: published weights in the cache, compilers."""
    faults = [
        f"{key} '{name}' is not in the hub cache {cache}: type `msvl fetch` with its --cache on a machine with internet, and set "
        "HUB_CACHE"
        for name, key in missing_names(config, cache).items()
    ]
    if config.zero.offload == "cpu":
        compilers = ["g++", "nvcc"] if gpus else ["g++"]
        faults += [
            f"zero.offload=cpu compiles DeepSpeed's CPU Adam, and there is no {program}: load a module that has it, or set "
            "zero.offload=none"
            for program in compilers
            if not shutil.which(program)
        ]
    return faults


def gather(port: int, expected: Sequence[str], patience: float = PATIENCE_SECONDS) -> list[str]:
    """Listen until every other node has come; return those that have not."""
    waiting = set(expected)
    deadline = time.monotonic() + patience
    with socket.create_server(("", port), backlog=max(1, len(expected))) as server:
        while waiting and (left := deadline - time.monotonic()) > 0:
            server.settimeout(left)
            with contextlib.suppress(TimeoutError):
                connection, _ = server.accept()
                with connection:
                    connection.settimeout(10)
                    waiting.discard(connection.makefile("r", encoding="utf-8").readline().strip())
    return sorted(waiting)


def greet(address: str, port: int, name: str, patience: float = PATIENCE_SECONDS) -> None:
    """Tell the first node that this one is there. Raises OSError when it cannot be reached in time."""
    deadline = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection((address, port), timeout=10) as connection:
                connection.sendall(f"{name}\n".encode())
                return
        except ConnectionRefusedError:  # the first node is not as far yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def write_report(folder: Path, name: str, faults: Sequence[str]) -> None:
    """Leave a node's findings, whole or not at all."""
    temporary = folder / f".{name}"
    temporary.write_text(json.dumps({"node": name, "faults": list(faults)}), encoding="utf-8")
    os.replace(temporary, folder / f"{name}.json")


def read_reports(folder: Path, names: Sequence[str]) -> list[str]:
    """Return the nodes that left no report. Raises ClusterError naming each node with a fault."""
    missing, told = [], []
    for name in names:
        path = folder / f"{name}.json"
        if not path.is_file():
            missing.append(name)
            continue
        told += [f"{name}: {fault}" for fault in json.loads(path.read_text(encoding="utf-8"))["faults"]]
    if told:
        raise ClusterError(
            f'pre-flight found: {"; ".join(told)}. A bad node is avoided by SBATCH_OPTIONS="--exclude=NAME"'
        )
    return missing


if __name__ == "__main__":
    sys.exit(main())
