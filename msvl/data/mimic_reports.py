"""Reports of MIMIC-CXR: files in folders, or the table of sections that MIT-LCP's tools make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from msvl.config.errors import DataError
from msvl.data.csv_table import place, read_rows

SECTIONS = ("impression", "findings", "last_paragraph", "comparison")


@dataclass(frozen=True)
class ReportFiles:
    """Files `p10/p10000032/s50414267.txt`, beside the folders of the studies."""

    folder: Path
    """The one that holds p10 ... p19."""

    @classmethod
    def find(cls, folder: Path) -> ReportFiles:
        """Look for the reports where unpacking the zip puts them. Raises DataError."""
        if folder.is_file():
            unpack = "unzip -q {} -d" if folder.suffix == ".zip" else "mkdir mimic-cxr-reports; tar -xf {} -C"
            command = f"{unpack.format(folder.name)} mimic-cxr-reports"
            raise DataError(f"--reports {folder} is a file: unpack it ({command}) and name the folder")
        if not folder.is_dir():
            raise DataError(f"--reports {folder}: there is no such folder")
        for below in ("", "files", "mimic-cxr-reports", "mimic-cxr-reports/files"):
            place = folder / below
            if next(place.glob("p1[0-9]/p1*/s5*.txt"), None):
                return cls(place)
        raise DataError(
            f"--reports {folder} has no reports such as p10/p10000032/s50414267.txt: unpack mimic-cxr-reports.zip there"
        )

    def read(self, subject: str, study: str, where: str) -> str:
        """Return a study's report, the whole file. Raises DataError naming `where`."""
        path = self.folder / f"p{subject[:2]}" / f"p{subject}" / f"s{study}.txt"
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            raise DataError(f"{where}: its report cannot be read ({error.strerror})") from error
        except UnicodeDecodeError as error:
            raise DataError(f"{where}: its report is not UTF-8: convert it, or unpack the reports again") from error


def section_reports(path: Path) -> dict[str, str]:
    """Return study -> report made of its sections, from `mimic_cxr_sectioned.csv` (whose studies have an s in front).

    Each section stands under its heading; the last paragraph only where there is neither findings nor impression.

    Raises:
        DataError: the table cannot be read, or names a study twice.
    """
    reports: dict[str, str] = {}
    for number, row in read_rows(path, ("study", *SECTIONS)):
        study = row["study"].removeprefix("s")
        if study in reports:
            raise DataError(f"{place(path, number)}: its study has a row above already; make the table again")
        reports[study] = _joined(row)
    return reports


def _joined(row: dict[str, str]) -> str:
    texts = {name: row[name] for name in SECTIONS if row[name].lower() not in ("", "nan")}
    kept: list[str] = [name for name in ("comparison", "findings", "impression") if name in texts]
    if "last_paragraph" in texts and not {"findings", "impression"} & set(kept):
        kept.append("last_paragraph")
    return "\n\n".join(f"{name.replace('_', ' ').upper()}: {texts[name]}" for name in kept)
