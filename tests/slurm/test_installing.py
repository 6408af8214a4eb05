"""A machine gets Slurm's packages only from tests that were asked to install them."""

from __future__ import annotations

import subprocess

import pytest

from tests.slurm.private_cluster import SlurmUnavailable, install


def test_nothing_is_installed_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MSVL_CI", "MSVL_SLURM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a command ran"))
    with pytest.raises(SlurmUnavailable, match="^a-package not installed; MSVL_SLURM=install lets"):
        install({"no-such-program": "a-package"})


@pytest.mark.parametrize(("name", "value"), [("MSVL_CI", "1"), ("MSVL_SLURM", "install")])
def test_what_is_missing_is_installed_when_asked(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    typed: list[list[str]] = []

    def run(words: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        typed.append(words)
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr("os.getuid", lambda: 0)
    monkeypatch.setattr("shutil.which", lambda program, **_: "apt-get" if program == "apt-get" else None)
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv(name, value)
    install({"no-such-program": "a-package"})
    assert [words[2] for words in typed] == ["update", "install"]
    assert typed[-1][-1] == "a-package"
