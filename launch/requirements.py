"""Whether this Python can run the launchers. Any Python 3 must understand this file: it is what a login node calls `python`."""

import importlib.util
import sys

PACKAGES = {
    "matplotlib": "matplotlib", "numpy": "numpy", "pydantic": "pydantic", "pyyaml": "yaml", "submitit": "submitit", "xxhash": "xxhash",
}  # fmt: skip
"""What a Python that only submits needs: package -> module. (Training needs more, inside its container where there is one.)"""


def check_python(oldest: tuple = (3, 11)) -> None:
    """End with one sentence and exit code 2 when this Python is too old or lacks a package."""
    lacking = [package for package, module in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if sys.version_info[:2] >= oldest and not lacking:
        return
    faults = [] if sys.version_info[:2] >= oldest else ["is older than {}.{}".format(*oldest)]
    faults += ["lacks " + ", ".join(lacking)] if lacking else []
    sys.stderr.write(
        f"msvl: {sys.executable} (Python {sys.version_info[0]}.{sys.version_info[1]}) {' and '.join(faults)}: type .venv/bin/python "
        "(`make setup` makes it), or where training runs in a container the LAUNCH_PYTHON that slurm/examples/apptainer.env makes\n"
    )
    raise SystemExit(2)
