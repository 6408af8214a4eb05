"""Make .venv with everything msvl needs; do nothing when nothing changed. Standard library only, run by `make setup`.

KEEP_TORCH=1 keeps the torch of the active environment (a GPU machine's own build) instead of installing one. Later calls
remember that; KEEP_TORCH=0 ends it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "msvl-setup"
KEPT = ENVIRONMENT / "msvl-kept-torch"
"""Folder and version of the torch that is kept, a line each."""
WHICH_TORCH = """import importlib.metadata, sys
torch = importlib.metadata.distribution("torch")
print(*sys.version_info[:2], sep="."), print(torch.locate_file("")), print(torch.version)"""
OP = "from deepspeed.ops.op_builder import *; from deepspeed.accelerator import get_accelerator as a; a().create_op_builder('ShareMemCommBuilder').load(verbose=False)"


def main() -> int:
    """Set up; return 2 with one line when something that only the user can install is missing."""
    try:
        check_machine()
        kept = kept_torch()
        wanted = fingerprint(kept)
        if STAMP.is_file() and STAMP.read_text() == wanted:
            return 0
        started = time.monotonic()
        say("setting up .venv (some minutes the first time; needs 2 GB and the network)")
        make_environment(kept)
        install(kept)
        build_op()
        STAMP.write_text(wanted)
        say(f"ready after {time.monotonic() - started:.0f} s")
    except SetupError as error:
        sys.stderr.write(f"setup: {error}\n")
        return 2
    return 0


class SetupError(Exception):
    """What is missing and how to get it, in one line."""


class Torch(NamedTuple):
    """A torch outside .venv."""

    folder: str
    """The site-packages that holds it."""
    version: str


def check_machine() -> None:
    """Raise SetupError naming the Debian package of whatever is missing."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if sys.version_info < (3, 11):  # noqa: UP036 - this very script is run by whatever Python is there
        raise SetupError(
            f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}: apt-get install python3.11 python3.11-venv python3.11-dev"
        )
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        raise SetupError(f"Python's venv module is missing: apt-get install {version}-venv") from error
    if not shutil.which("g++") and not shutil.which("c++"):
        raise SetupError("a C++ compiler is missing: apt-get install g++")
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        raise SetupError(f"Python.h is missing: apt-get install {version}-dev")


def kept_torch() -> Torch | None:
    """Return the torch that .venv does not replace, asked for now or earlier. Raises SetupError when there is none."""
    asked = os.environ.get("KEEP_TORCH", "")
    if asked == "0" or not (asked or KEPT.is_file()):
        return None
    torch = (active_torch() if asked else None) or remembered_torch()
    if torch is None:
        raise SetupError(
            "there is no torch to keep: activate the environment that has it and repeat `make setup KEEP_TORCH=1`; "
            "`make setup KEEP_TORCH=0` installs one"
        )
    least, most = re.findall(r'"torch>=([\d.]+),<([\d.]+)"', (ROOT / "setup.py").read_text())[0]
    if not _numbers(least) <= _numbers(torch.version) < _numbers(most):
        raise SetupError(
            f"torch {torch.version} in {torch.folder} cannot be kept: msvl needs torch>={least},<{most}; "
            "`make setup KEEP_TORCH=0` installs one"
        )
    return torch


def active_torch() -> Torch | None:
    """Return the torch of the active environment, else of the Python on PATH. Raises SetupError for another Python's."""
    active = [
        Path(os.environ[name]) / "bin" / "python" for name in ("VIRTUAL_ENV", "CONDA_PREFIX") if name in os.environ
    ]
    for python in (*active, shutil.which("python"), shutil.which("python3"), sys.executable):
        if python is None or not Path(python).exists():
            continue
        words = [str(python), "-c", WHICH_TORCH]
        done = subprocess.run(words, cwd="/", capture_output=True, text=True, check=False)
        if done.returncode:
            continue
        version, folder, torch = done.stdout.splitlines()
        if Path(folder).resolve().is_relative_to(ENVIRONMENT.resolve()):
            continue
        if version != f"{sys.version_info.major}.{sys.version_info.minor}":
            raise SetupError(
                f"torch {torch} in {folder} belongs to Python {version}: make setup KEEP_TORCH=1 PYTHON=python{version}"
            )
        return Torch(str(Path(folder).resolve()), torch)
    return None


def remembered_torch() -> Torch | None:
    """Return the torch that lies where the last set-up kept one."""
    if not KEPT.is_file():
        return None
    folder = KEPT.read_text().splitlines()[0]
    found = list(importlib.metadata.distributions(name="torch", path=[folder]))
    return Torch(folder, found[0].version) if found else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:2]))


def fingerprint(kept: Torch | None) -> str:
    """Return what the environment depends on."""
    digest = hashlib.sha256()
    for name in ("setup.py", "constraints.txt", "scripts/setup_environment.py"):
        digest.update((ROOT / name).read_bytes())
    digest.update(f"{ROOT}{sys.version}{kept or ''}".encode())
    return digest.hexdigest()


def make_environment(kept: Torch | None) -> None:
    """Create .venv unless it is there, starts and was made for the same torch; show it the torch that is kept."""
    note = "\n".join(kept) if kept else ""
    same = note == (KEPT.read_text() if KEPT.is_file() else "")
    if same and PYTHON.is_file() and subprocess.run([PYTHON, "-c", ""], check=False).returncode == 0:
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    run("making the environment", [sys.executable, "-m", "venv", str(ENVIRONMENT)])
    if kept:
        packages = f"python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
        (ENVIRONMENT / "lib" / packages / "msvl-kept-torch.pth").write_text(f"{kept.folder}\n")
        KEPT.write_text(note)


def install(kept: Torch | None) -> None:
    """Install torch first: asked for with others, pip would take the newest with gigabytes of CUDA."""
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
    constraints = ROOT / "constraints.txt"
    if kept is None:
        run("installing torch", [*pip, torch_pin()])
    else:
        run(f"trying torch {kept.version} of {kept.folder}", [str(PYTHON), "-c", "import torch"])
        lines = [line for line in constraints.read_text().splitlines() if not line.startswith("torch==")]
        constraints = ENVIRONMENT / "constraints.txt"
        constraints.write_text("\n".join([*lines, f"torch=={kept.version}"]) + "\n")
    run("installing the other packages", [*pip, "-c", str(constraints), "-e", f"{ROOT}[dev]"])


def torch_pin() -> str:
    """Return the pinned torch, for example torch==2.13.0."""
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line.startswith("torch=="):
            return line.split("#")[0].strip()
    raise SetupError("constraints.txt does not pin torch")


def build_op() -> None:
    """Build DeepSpeed's CPU op into .venv, so that no run compiles."""
    variables = os.environ | {
        "PATH": f"{ENVIRONMENT / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "TORCH_EXTENSIONS_DIR": str(ENVIRONMENT / "torch_extensions"),
        "DS_ACCELERATOR": "cpu",
    }
    for lock in (ENVIRONMENT / "torch_extensions").glob("*/lock"):
        lock.unlink()  # nobody builds in an environment that is being set up
    run("building DeepSpeed's communication op", [str(PYTHON), "-c", OP], variables)


def run(what: str, command: list[str], environment: dict[str, str] | None = None) -> None:
    """Run a command, saying what and how long; on failure show its output and raise SetupError."""
    started = time.monotonic()
    done = subprocess.run(
        command, env=environment, text=True, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    if done.returncode:
        sys.stderr.write(done.stdout[-4000:] + "\n")
        raise SetupError(f"{what} failed (exit code {done.returncode}); the reason stands above")
    say(f"{what}: {time.monotonic() - started:.0f} s")


def say(text: str) -> None:
    """Tell the person who waits."""
    sys.stderr.write(f"setup: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
