"""The container files, linted: no engine runs here, so they are parsed, and their install step is run in a clean environment."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.runs import ROOT

DOCKER = ROOT / "docker"
INSTRUCTIONS = {"FROM", "RUN", "COPY", "WORKDIR", "USER", "ENV", "CMD"}


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def sections() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"": []}
    name = ""
    for line in (DOCKER / "msvl.def").read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].strip()
            found[name] = []
        elif line.strip() and not line.startswith("#"):
            found[name].append(line.strip())
    return found


def test_dockerfile_is_pinned_cached_and_ends_as_a_user() -> None:
    steps = instructions()
    assert {word for word, _ in steps} <= INSTRUCTIONS
    assert steps[0][0] == "FROM"
    assert re.fullmatch(r"python:\d+\.\d+\.\d+-slim-bookworm", steps[0][1])
    for word, rest in steps:
        if word == "RUN" and "apt-get install" in rest:
            assert "apt-get update" in rest
            assert "--no-install-recommends" in rest
            assert "rm -rf /var/lib/apt/lists/*" in rest
        if word == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).is_file() for source in sources)
            # The layer with all packages is made again only when what is installed changes.
            assert set(sources) == {"setup.py", "constraints.txt", "docker/install.sh"}
    users = [rest for word, rest in steps if word == "USER"]
    assert users and users[-1] not in ("root", "0")


def test_the_build_sees_what_it_copies_and_nothing_else() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == {"setup.py", "constraints.txt", "docker/install.sh"}


def test_apptainer_definition_takes_the_same_steps() -> None:
    parts = sections()
    assert parts[""] == ["Bootstrap: docker", f"From: {instructions()[0][1]}"]
    assert all((ROOT / line.split()[0]).is_file() for line in parts["files"])
    copied = {line.split()[0] for line in parts["files"]}
    assert copied == {"setup.py", "constraints.txt", "docker/install.sh"}
    steps = " ".join(rest for word, rest in instructions() if word == "RUN")
    for line in parts["post"]:
        assert line.startswith("cd ") or line in steps, line


def test_install_step_is_plain_bash() -> None:
    for script in [DOCKER / "install.sh", *(ROOT / "slurm").glob("*.sh")]:
        subprocess.run(["bash", "-n", str(script)], check=True)


@pytest.mark.slow
@pytest.mark.evidence("The install step of the container images runs in a clean environment", how="cpu")
def test_install_step_in_a_clean_environment(tmp_path: Path) -> None:
    for source in ("setup.py", "constraints.txt", "docker/install.sh"):
        shutil.copy2(ROOT / source, tmp_path)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    done = subprocess.run(
        ["bash", "install.sh", str(python)], cwd=tmp_path, capture_output=True, text=True, timeout=1500, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    code = "import torch, deepspeed, accelerate, transformers, webdataset, wandb, submitit, einops, s3fs"
    subprocess.run([python, "-c", code], check=True, cwd=tmp_path, timeout=300)
