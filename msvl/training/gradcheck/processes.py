"""Run a function on N processes of this machine that talk over gloo."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from msvl.config.errors import ClusterError, MsvlError


def run_processes(world: int, function: Callable[..., Any], *arguments: Any, minutes: float = 10) -> list[Any]:
    """Return [function(*arguments) on rank 0, ... on rank world - 1].

    Args:
        world: Number of processes.
        function: Importable by name.
        arguments: The same for all ranks; can be pickled.
        minutes: Until a collective gives up.

    Raises:
        MsvlError: A rank found a mistake of the user's; as it raised it.
        ClusterError: A rank failed; with its traceback's last line, and its rank.
    """
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="msvl-gradcheck-") as folder:
        pipes, processes = [], []
        for rank in range(world):
            ours, theirs = context.Pipe(duplex=False)
            order = (rank, world, str(Path(folder) / "store"), minutes, function, arguments, theirs)
            process = context.Process(target=_serve, args=order, daemon=True)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        try:
            return _answers(pipes)
        finally:
            for process in processes:
                process.kill()
                process.join()


def _answers(pipes: list[Connection]) -> list[Any]:
    found: dict[int, Any] = {}
    open_pipes = dict(zip(map(id, pipes), range(len(pipes)), strict=True))
    while len(found) < len(pipes):
        for ready in wait([pipe for pipe in pipes if open_pipes[id(pipe)] not in found]):
            assert isinstance(ready, Connection)
            rank = open_pipes[id(ready)]
            try:
                good, answer = pickle.loads(ready.recv_bytes())
            except (EOFError, ConnectionResetError):
                raise ClusterError(f"rank {rank} died without a word (out of memory?)") from None
            if isinstance(answer, MsvlError):
                raise answer
            if not good:
                raise ClusterError(f"rank {rank}: {answer}")
            found[rank] = answer
    return [found[rank] for rank in range(len(pipes))]


def _serve(
    rank: int, world: int, store: str, minutes: float, function: Callable[..., Any], arguments: tuple[Any, ...],
    pipe: Connection,
) -> None:  # fmt: skip
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), LOCAL_WORLD_SIZE=str(world))
    import torch
    import torch.distributed as dist

    from msvl.collectives.strict import check_collectives

    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world, timeout=timedelta(minutes=minutes)
    )
    try:
        check_collectives(True)
        answer = (True, function(*arguments))
    except MsvlError as error:
        answer = (False, error)
    except Exception as error:  # told to the parent, which raises it
        last = traceback.extract_tb(error.__traceback__)[-1]
        answer = (False, f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})")
    # Plain pickle: a pipe's own would send tensors as handles to memory that goes when this process does.
    pipe.send_bytes(pickle.dumps(answer))
