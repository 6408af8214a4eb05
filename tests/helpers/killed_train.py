"""Run training as one rank that kills itself with SIGKILL at a named moment (KILL_AT), as a preempting cluster would.

With "signal": "SIGSTOP" it stands still there instead, until somebody sends SIGCONT, and goes on.

Started by accelerate, or as one process, in place of msvl/train.py. Nothing in the package knows of it.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parents[2])


def die(where: str, signal_name: str) -> None:
    """Leave a trace that the moment was reached (this process's id), then die as if by the kernel's hand."""
    Path(os.environ["KILL_TRACE"]).write_text(str(os.getpid()))
    os.kill(os.getpid(), signal.Signals[signal_name])


def on_call(owner: Any, name: str, number: int, action: Callable[[Callable[..., Any], tuple[Any, ...]], Any]) -> None:
    """Replace call `number` (from 1) of `owner.name` by `action(original, arguments)`."""
    original = getattr(owner, name)
    calls = [0]

    def replaced(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == number:
            return action(lambda *a: original(*a, **named), arguments)
        return original(*arguments, **named)

    setattr(owner, name, replaced)


def install(where: str, number: int, share: float, signal_name: str) -> None:
    """Arrange the death: `number` counts calls in this process, `share` is how much of a file gets written.

    At "clock" it comes `share` seconds after the first forward pass, whatever goes on then.
    """
    import torch

    from msvl.training import engine, lease, run, saver, storage

    def after(original: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        result = original(*arguments)
        die(where, signal_name)
        return result

    def before(original: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        die(where, signal_name)
        return original(*arguments)

    def partly(original: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        value, path = arguments
        buffer = io.BytesIO()
        torch.save(value, buffer)
        data = buffer.getvalue()
        with open(path, "wb") as stream:
            stream.write(data[: int(len(data) * share)])
            stream.flush()
            os.fsync(stream.fileno())
        die(where, signal_name)
        return original(*arguments)

    def later(original: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        threading.Timer(share, die, (where, signal_name)).start()
        return original(*arguments)

    if where == "lease":
        on_call(lease.Lease, "clear_older", 1, after)
    elif where == "load":
        on_call(run, "_restore", 1, before)
    elif where == "clock":
        on_call(engine.Engine, "forward", 1, later)
    elif where == "start":
        on_call(run, "build_engine", 1, before)
    elif where == "forward":
        on_call(engine.Engine, "forward", number, after)
    elif where == "optimizer":
        on_call(torch.optim.AdamW, "step", number, after)
    elif where == "save":
        on_call(storage, "write_torch", number, partly)
    elif where == "rename":
        on_call(saver.os, "rename", number, before)
    else:
        raise ValueError(where)


def main() -> int:
    """Install the death of this rank, if it is this rank's turn, and train."""
    plan = json.loads(os.environ["KILL_AT"])
    if int(os.environ.get("RANK", "0")) == plan["rank"]:
        from msvl.environment import prepare_environment

        prepare_environment()
        install(plan["where"], plan.get("number", 1), plan.get("share", 0.0), plan.get("signal", "SIGKILL"))
    from msvl.training.cli import main as train

    return train(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
