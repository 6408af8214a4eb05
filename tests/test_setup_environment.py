"""`make setup` on machines that lack something."""

from __future__ import annotations

import builtins
import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "setup_environment.py"


@pytest.fixture
def setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_environment", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ENVIRONMENT", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    for name in ("STAMP", "KEPT"):
        monkeypatch.setattr(module, name, tmp_path / ".venv" / getattr(module, name).name)
    for name in ("KEEP_TORCH", "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    return module


@pytest.fixture
def own_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An active environment with a torch of its own; its site-packages."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "theirs"], check=True)
    packages = next((tmp_path / "theirs" / "lib").glob("python*")) / "site-packages"
    write_torch(packages, "2.12.1+cu999")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "theirs"))
    return packages


def write_torch(packages: Path, version: str) -> None:
    (packages / "torch").mkdir(exist_ok=True)
    (packages / "torch" / "__init__.py").write_text(f"__version__ = {version!r}\n")
    for old in packages.glob("torch-*"):
        shutil.rmtree(old)
    about = packages / f"torch-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")


def refuse(*_: object) -> None:
    pytest.fail("the machine was changed although something is missing")


def one_line(setup: ModuleType, capsys: pytest.CaptureFixture[str]) -> str:
    setup.make_environment = setup.install = setup.build_op = refuse
    assert setup.main() == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    return text


def test_a_missing_compiler(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install g++" in one_line(setup, capsys)


def test_missing_headers(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert "apt-get install python3." in (text := one_line(setup, capsys))
    assert text.strip().endswith("-dev")


def test_a_missing_venv(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "ensurepip":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    assert one_line(setup, capsys).strip().endswith("-venv")


def test_an_old_python(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(setup.sys, "version_info", type("V", (tuple,), {"major": 3, "minor": 9})((3, 9, 0)))
    assert "Python 3.11 or newer is needed" in one_line(setup, capsys)


def test_a_command_that_fails_shows_its_output(setup: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(setup.SetupError, match=r"building failed \(exit code 3\)"):
        setup.run("building", ["sh", "-c", "echo the reason; exit 3"])
    assert "the reason" in capsys.readouterr().err


def test_nothing_is_done_twice(setup: ModuleType) -> None:
    setup.ENVIRONMENT.mkdir()
    setup.STAMP.write_text(setup.fingerprint(None))
    setup.make_environment = setup.install = setup.build_op = refuse
    assert setup.main() == 0


def test_the_pin_is_exact(setup: ModuleType) -> None:
    assert setup.torch_pin().startswith("torch==2.")


@pytest.mark.evidence(
    "`make setup KEEP_TORCH=1` keeps the torch of the active environment, and so does every later `make` (a stub of torch)",
    how="cpu",
)
def test_an_own_torch_is_seen_and_kept(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, own_torch: Path) -> None:
    typed: list[list[str]] = []
    real = setup.run

    def run(what: str, command: list[str], *rest: object) -> None:
        typed.append(command)
        if "install" not in command:
            real(what, command, *rest)

    monkeypatch.setattr(setup, "run", run)
    monkeypatch.setattr(setup, "build_op", lambda: None)
    monkeypatch.setenv("KEEP_TORCH", "1")
    assert setup.main() == 0
    (installed,) = (command for command in typed if "install" in command)
    constraints = installed[installed.index("-c") + 1]
    pins = [line for line in Path(constraints).read_text().splitlines() if line.startswith("torch==")]
    assert pins == ["torch==2.12.1+cu999"]
    # What pip makes of it, without a network: nothing to do.
    words = [*installed[: installed.index("install") + 1], "--dry-run", "--no-index", "-c", constraints, "torch>=2.10"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"torch>=2.10 in {own_torch}" in done.stdout.replace("satisfied: ", ""), done.stdout
    asked = subprocess.run(
        [setup.PYTHON, "-c", "import torch; print(torch.__version__)"], capture_output=True, text=True, check=True
    )
    assert asked.stdout.strip() == "2.12.1+cu999"

    monkeypatch.delenv("KEEP_TORCH")
    monkeypatch.delenv("VIRTUAL_ENV")
    typed.clear()
    assert setup.main() == 0
    assert typed == [], "a plain `make quickstart` later leaves it as it is"


def test_the_choice_can_be_changed(setup: ModuleType, monkeypatch: pytest.MonkeyPatch, own_torch: Path) -> None:
    monkeypatch.setenv("KEEP_TORCH", "1")
    first = setup.kept_torch()
    assert first == (str(own_torch.resolve()), "2.12.1+cu999")
    setup.ENVIRONMENT.mkdir()
    setup.KEPT.write_text("\n".join(first))
    monkeypatch.delenv("KEEP_TORCH")
    monkeypatch.delenv("VIRTUAL_ENV")
    assert setup.kept_torch() == first
    write_torch(own_torch, "2.13.0")
    assert setup.fingerprint(setup.kept_torch()) != setup.fingerprint(first), "its owner has updated it"
    monkeypatch.setenv("KEEP_TORCH", "0")
    assert setup.kept_torch() is None


def test_no_torch_to_keep(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, own_torch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in own_torch.glob("torch*"):
        shutil.rmtree(path)
    monkeypatch.setattr(setup.shutil, "which", lambda name: "/bin/true" if "+" in name else None)
    monkeypatch.setattr(setup.sys, "executable", str(own_torch / "none"))
    monkeypatch.setenv("KEEP_TORCH", "1")
    assert "there is no torch to keep: activate the environment" in one_line(setup, capsys)


def test_a_torch_that_is_too_old(
    setup: ModuleType, monkeypatch: pytest.MonkeyPatch, own_torch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_torch(own_torch, "2.4.1")
    monkeypatch.setenv("KEEP_TORCH", "1")
    assert "torch 2.4.1 in " in (text := one_line(setup, capsys))
    assert "msvl needs torch>=2.10,<3" in text
