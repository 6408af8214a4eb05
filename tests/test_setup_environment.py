"""`make setup` on machines that lack something."""

from __future__ import annotations

import builtins
import importlib.util
import shutil
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
    monkeypatch.setattr(module, "STAMP", tmp_path / "stamp")
    return module


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
    setup.STAMP.write_text(setup.fingerprint())
    setup.make_environment = setup.install = setup.build_op = refuse
    assert setup.main() == 0


def test_the_pin_is_exact(setup: ModuleType) -> None:
    assert setup.torch_pin().startswith("torch==2.")
