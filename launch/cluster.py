"""slurm/cluster.env: everything about the cluster, in one file that bash and Python both read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from msvl.config.base import Config
from msvl.config.errors import ClusterError, ConfigError
from msvl.config.load import check_config

ROOT = Path(__file__).resolve().parents[1]
"""The checkout, or the snapshot that a job runs from."""
ENV_FILE = Path("slurm") / "cluster.env"
PLACEHOLDER = "CHANGE-ME"


class Cluster(Config):
    """What a job needs to know of the cluster. The keys of cluster.env are these names in capitals."""

    partition: str
    """Partition of training jobs."""
    account: str | None = None
    """Account that is charged."""
    qos: str | None = None
    """Quality of service."""
    nodes: PositiveInt = 1
    """Nodes of a training job."""
    gpus_per_node: int = Field(0, ge=0)
    """GPUs asked for on each node."""
    gpu_option: Literal["gpus-per-node", "gres"] = "gpus-per-node"
    """How the site wants GPUs to be asked for."""
    ranks_per_node: PositiveInt | None = None
    """Processes on each node; null is one per GPU."""
    cpus_per_node: PositiveInt = 8
    """Cores asked for on each node."""
    memory_per_node: str | None = None
    """Memory asked for on each node, as Slurm writes it (400G); null is the site's default."""
    time: str = Field("24:00:00", pattern=r"^(\d+-)?\d{1,2}(:\d{2}){0,2}$|^\d+$")
    """Time limit of a job: minutes, HH:MM:SS or D-HH:MM:SS. A run that needs longer goes on in the next job."""
    signal_seconds: PositiveInt = 300
    """The warning comes this long before the time limit: a step and a save must fit in."""
    max_restarts: PositiveInt = 3
    """Restarts in a row without a new checkpoint after which a run is given up."""
    start: Literal["accelerate", "srun"] = "accelerate"
    """accelerate: one task per node, which starts `accelerate launch`; srun: one task per rank, without a launcher."""
    preflight: bool = True
    """Check nodes, code, shards and disk before training."""
    min_free_gb: float = Field(20.0, ge=0)
    """Free disk that the run folder must have, in 10^9 bytes."""
    modules: str = ""
    """Environment modules to load, separated by spaces."""
    container: Literal["none", "apptainer", "pyxis"] = "none"
    """What training runs in."""
    image: str | None = None
    """Container image: a .sif file (apptainer), a .sqsh file or docker:// address (pyxis)."""
    mounts: str = ""
    """Folders that the container sees beside the checkout and the run folder, separated by commas."""
    python: str = ".venv/bin/python"
    """Python of training; inside the container where there is one."""
    launch_python: str | None = None
    """Python of the launchers, outside any container, with the packages of launch/requirements.py; null is `python`."""
    config: str = "configs/pretrain/mimic_cxr.yaml"
    """What `sbatch slurm/pretrain.sh` trains."""
    hub_cache: str | None = None
    """Shared folder of published weights, filled by `msvl fetch`; null is the user's own."""
    sbatch_options: str = ""
    """Further options of sbatch as --name=value words."""
    exports: dict[str, str] = {}
    """From lines `export NAME=value`: variables of the job, NCCL's among them."""

    @model_validator(mode="after")
    def _check(self) -> Cluster:
        if not self.gpus_per_node and self.ranks_per_node is None:
            raise ValueError("GPUS_PER_NODE is 0: set it, or RANKS_PER_NODE for nodes without GPUs")
        if self.container != "none" and not self.image:
            raise ValueError(f"CONTAINER={self.container} needs IMAGE")
        if self.container == "none" and self.image:
            raise ValueError("IMAGE is set and CONTAINER=none: set CONTAINER to apptainer or pyxis")
        if self.container != "none" and not self.launch_python:
            raise ValueError(
                f"CONTAINER={self.container} needs LAUNCH_PYTHON: sbatch and scontrol are outside the image"
            )
        for word in shlex.split(self.sbatch_options):
            if not re.fullmatch(r"--[a-z][a-z0-9-]*(=.+)?", word):
                raise ValueError(f"SBATCH_OPTIONS: '{word}' is not of the form --name=value")
        return self

    @property
    def ranks(self) -> int:
        """Processes on each node."""
        return self.ranks_per_node or self.gpus_per_node

    @property
    def world_size(self) -> int:
        """Processes of a training job."""
        return self.nodes * self.ranks

    def absolute(self, root: Path) -> Cluster:
        """Return a copy whose Pythons and cache do not depend on the working folder."""
        launcher = str(root / (self.launch_python or self.python))
        inside = self.python if self.container != "none" else str(root / self.python)
        cache = str(root / self.hub_cache) if self.hub_cache else None
        return self.model_copy(update={"launch_python": launcher, "python": inside, "hub_cache": cache})


def read_cluster(root: Path, *, file: Path | None = None, **overrides: object) -> Cluster:
    """Read and check cluster.env.

    Args:
        root: The checkout.
        file: Another file than slurm/cluster.env.
        overrides: Fields that the command line sets.

    Raises:
        ClusterError: It still holds a placeholder, or a program that it names is missing.
        ConfigError: It is malformed; names the line or the key.
    """
    path = file or root / ENV_FILE
    tree: dict[str, object] = parse_env(path)
    for key, value in tree.items():
        if value == PLACEHOLDER:
            raise ClusterError(
                f"{_shown(path, root)} has not been edited: {key.upper()} still says {PLACEHOLDER}; start from one of "
                "slurm/examples/*.env"
            )
    tree |= {name: value for name, value in overrides.items() if value is not None}
    cluster = check_config(tree, Cluster, where=_shown(path, root)).absolute(root)
    assert cluster.launch_python is not None
    if not Path(cluster.launch_python).is_file():
        raise ClusterError(
            f"{_shown(path, root)}: there is no Python {cluster.launch_python}: `make setup` makes .venv"
        )
    if cluster.container == "apptainer" and cluster.image and not (root / cluster.image).exists():
        raise ClusterError(
            f"{_shown(path, root)}: there is no image {cluster.image}: docker/README.md says how to make it"
        )
    return cluster


def parse_env(path: Path) -> dict[str, object]:
    """Read lines KEY=value and export NAME=value, quoted as bash does. Raises ConfigError naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; type the command in the checkout") from error
    found: dict[str, object] = {}
    exports: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error
        if not words:
            continue
        exported = words[0] == "export"
        assignment = words[1:] if exported else words
        match = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", assignment[0]) if len(assignment) == 1 else None
        if match is None or "$" in line.split("#")[0]:
            raise ConfigError(f"{path}, line {number}: expected KEY=value or export NAME=value, without $ and spaces")
        if exported:
            exports[match[1]] = match[2]
        elif match[2]:
            found[match[1].lower()] = match[2]
    return found | ({"exports": exports} if exports else {})


def _shown(path: Path, root: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
