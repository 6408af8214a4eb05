"""Make .venv with everything msvl needs; do nothing when nothing changed. Standard library only, run by `make setup`.

KEEP_TORCH=1 keeps the torch of the active environment (a GPU machine's own build) instead of installing one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / "msvl-setup"
OP = "from deepspeed.ops.op_builder import *; from deepspeed.accelerator import get_accelerator as a; a().create_op_builder('ShareMemCommBuilder').load(verbose=False)"


def main() -> int:
    """Set up; return 2 with one line when something that only the user can install is missing."""
    try:
        check_machine()
        wanted = fingerprint()
        if STAMP.is_file() and STAMP.read_text() == wanted:
            return 0
        started = time.monotonic()
        say("setting up .venv (some minutes the first time; needs 2 GB and the network)")
        make_environment()
        install()
        build_op()
        STAMP.write_text(wanted)
        say(f"ready after {time.monotonic() - started:.0f} s")
    except SetupError as error:
        sys.stderr.write(f"setup: {error}\n")
        return 2
    return 0


class SetupError(Exception):
    """What is missing and how to get it, in one line."""


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


def fingerprint() -> str:
    """Return what the environment depends on."""
    digest = hashlib.sha256()
    for name in ("setup.py", "constraints.txt", "scripts/setup_environment.py"):
        digest.update((ROOT / name).read_bytes())
    digest.update(f"{ROOT}{sys.version}{os.environ.get('KEEP_TORCH', '')}".encode())
    return digest.hexdigest()


def make_environment() -> None:
    """Create .venv unless it is there and starts."""
    if PYTHON.is_file() and subprocess.run([PYTHON, "-c", ""], check=False).returncode == 0:
        return
    shutil.rmtree(ENVIRONMENT, ignore_errors=True)
    options = ["--system-site-packages"] if os.environ.get("KEEP_TORCH") else []
    run("making the environment", [sys.executable, "-m", "venv", *options, str(ENVIRONMENT)])


def install() -> None:
    """Install torch first: asked for with others, pip would take the newest with gigabytes of CUDA."""
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-script-location"]
    if not os.environ.get("KEEP_TORCH"):
        run("installing torch", [*pip, torch_pin()])
    constraints = ["-c", str(ROOT / "constraints.txt")]
    if os.environ.get("KEEP_TORCH"):
        kept = ENVIRONMENT / "constraints.txt"
        lines = (ROOT / "constraints.txt").read_text().splitlines()
        kept.write_text("\n".join(line for line in lines if not line.startswith(("torch==", "triton=="))))
        constraints = ["-c", str(kept)]
    run("installing the other packages", [*pip, *constraints, "-e", f"{ROOT}[dev]"])


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
