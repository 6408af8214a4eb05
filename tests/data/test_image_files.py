"""Files of any kind, and validation patients cut from an official training split."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from msvl.config.errors import DataError
from msvl.data.image_files import is_dicom, read_radiograph
from msvl.data.phantom.miniatures.dicom_files import write_dicom
from msvl.data.validation_split import train_or_val

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", ["a.dcm", "a.dicom", "A.DCM", "a.dcm.gz", "a.dicom.gz"])
def test_names_of_dicom_files(name: str) -> None:
    assert is_dicom(Path(name)) and not is_dicom(Path(name.lower().replace(".d", ".p")))


def test_the_name_decides_how_a_file_is_read(tmp_path: Path) -> None:
    image = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    write_dicom(tmp_path / "a.dcm", image, bits=12, PatientSex="F")
    png, dicom = (read_radiograph(tmp_path / name, "row 1") for name in ("a.png", "a.dcm"))
    assert np.array_equal(png[0], image) and np.array_equal(dicom[0], image)
    assert png[1:] == ((40, 40), {}) and dicom[1:] == ((40, 40), {"PatientSex": "F"})
    (tmp_path / "a.png").rename(tmp_path / "b.dcm")
    with pytest.raises(DataError, match=r"row 1: "):
        read_radiograph(tmp_path / "b.dcm", "row 1")


def test_listing_the_sources_imports_no_codec() -> None:
    code = (
        "import sys, msvl.cli\ntry:\n msvl.cli.main(['data', 'pack', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(3 if {'pydicom', 'imagecodecs'} & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "vindr-cxr" in done.stdout


def test_validation_patients_are_a_share_of_all_and_a_smaller_share_is_within_a_larger() -> None:
    patients = [f"{number:08d}" for number in range(20_000)]
    chosen = {share: {p for p in patients if train_or_val(p, share, "nih") == "val"} for share in (0.0, 0.05, 0.1)}
    assert not chosen[0.0] and chosen[0.05] < chosen[0.1]
    # 2,000 expected; five standard deviations of a binomial are 212.
    assert abs(len(chosen[0.1]) - 2000) < 212
    assert {p for p in patients if train_or_val(p, 0.1, "vindr") == "val"} != chosen[0.1]


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_shares_that_leave_nothing(share: float) -> None:
    with pytest.raises(DataError, match="--val-share .*: give a share from 0 to below 1"):
        train_or_val("1", share, "nih")
