"""What a task of the job does on its node: become `accelerate launch` with the right rank, or one rank of the run."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from msvl.config.errors import ClusterError, MsvlError
from msvl.config.exit_codes import EXIT_FILE

TRAIN = Path(__file__).resolve().parents[1] / "msvl" / "train.py"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; the job's batch process writes these words, nobody types them."""
    parser = argparse.ArgumentParser(prog="python -m launch.node", description="Start the ranks of one node.")
    parser.add_argument("--address", required=True, help="where rank 0 is")
    parser.add_argument("--port", type=int, required=True, help="where it listens")
    parser.add_argument("--nodes", type=int, required=True, help="nodes of the job")
    parser.add_argument("--ranks-per-node", type=int, required=True, help="ranks on each")
    parser.add_argument("--start", choices=("accelerate", "srun"), required=True, help="one task per node, or per rank")
    parser.add_argument("--grace-seconds", type=int, required=True, help="time for a save after a signal")
    parser.add_argument("--exit-file", required=True, help="where rank 0 leaves its exit code")
    parser.add_argument("--config", required=True, help="resolved configuration")
    parser.add_argument(
        "words", nargs="*", help="behind --: what the ranks run with Python, in the place of a training"
    )
    return parser


def command(arguments: argparse.Namespace, node: int, python: str) -> list[str]:
    """Return the line that this task becomes."""
    script = arguments.words or [str(TRAIN), "--config", arguments.config, "--resume"]
    if arguments.start == "srun":
        return [python, *script]
    launcher = [
        "-m", "accelerate.commands.launch", "--use_deepspeed", "--num_machines", str(arguments.nodes),
        "--num_processes", str(arguments.nodes * arguments.ranks_per_node), "--mixed_precision", "no", "--dynamo_backend", "no",
        "--main_process_port", str(arguments.port),
    ]  # fmt: skip
    if arguments.nodes > 1:
        # `standard` is torch's own launcher; accelerate's default for several nodes is pdsh, which needs ssh.
        launcher += ["--deepspeed_multinode_launcher", "standard", "--same_network"]
        launcher += ["--main_process_ip", arguments.address, "--machine_rank", str(node)]
    return [python, *launcher, *script]


def variables(arguments: argparse.Namespace, given: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the ranks. Raises ClusterError when the step is not of the size that it should have."""
    tasks = arguments.nodes * (1 if arguments.start == "accelerate" else arguments.ranks_per_node)
    if int(given.get("SLURM_NTASKS", "0")) != tasks:
        raise ClusterError(f"the step has {given.get('SLURM_NTASKS', 'no')} tasks instead of {tasks}")
    # torch's launcher kills ranks that still save 30 s after a signal.
    own = {EXIT_FILE: arguments.exit_file, "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(arguments.grace_seconds)}
    if arguments.words:
        own["PYTHONSAFEPATH"] = "1"  # the snapshot in PYTHONPATH is run, not the checkout that the working folder is
    if arguments.start == "srun":
        own |= {
            "RANK": given["SLURM_PROCID"], "LOCAL_RANK": given["SLURM_LOCALID"], "WORLD_SIZE": str(tasks),
            "LOCAL_WORLD_SIZE": str(arguments.ranks_per_node), "MASTER_ADDR": arguments.address,
            "MASTER_PORT": str(arguments.port),
        }  # fmt: skip
    return dict(given) | own


def main(argv: Sequence[str] | None = None) -> int:
    """Become the launcher; a warning reaches all processes, and those without a handler must not die of it."""
    arguments = build_parser().parse_args(argv)
    try:
        own = variables(arguments, os.environ)
    except MsvlError as error:
        sys.stderr.write(f"msvl: {error}\n")
        return error.exit_code
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    return become(command(arguments, int(own.get("SLURM_NODEID", "0")), sys.executable), own)


def become(line: list[str], environment: dict[str, str]) -> NoReturn:
    """Replace this process."""
    os.execve(line[0], line, environment)


if __name__ == "__main__":
    sys.exit(main())
