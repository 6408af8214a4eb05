"""Reports of Open-i (Indiana University): one XML file each, in the archive as it is served or unpacked."""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from msvl.config.errors import DataError

SECTIONS = ("COMPARISON", "INDICATION", "FINDINGS", "IMPRESSION")


@dataclass(frozen=True)
class OpeniReport:
    """One report, which is one study of one patient as far as anybody knows."""

    number: str
    """Of the report, as in `CXR3714`."""
    where: str
    """Which file of how many, in the order of their numbers: the name of a file is the report's id."""
    sections: dict[str, str]
    """Those that are not empty, in the order of SECTIONS."""
    terms: tuple[str, ...]
    """MeSH terms given by hand, such as `Cardiomegaly/mild`, or `normal`."""
    images: tuple[str, ...]
    """Image ids such as `CXR3714_IM-1854-1001`."""

    @property
    def text(self) -> str:
        """Return the report as text with headings."""
        return "\n\n".join(f"{name}: {text}" for name, text in self.sections.items())


def read_reports(place: Path) -> Iterator[OpeniReport]:
    """Yield the reports of NLMCXR_reports.tgz, or of the XML files in a folder or below it, by the length of their names, then by name.

    Raises:
        DataError: There is none, a file is no report, or two have one number.
    """
    seen: dict[str, str] = {}
    for name, data in _files(place):
        report = _parse(name, data)
        if seen.setdefault(report.number, name) != name:
            raise DataError(f"{name} and {seen[report.number]} are the same report: keep one copy")
        yield report
    if not seen:
        raise DataError(f"--reports {place} has no XML file: give NLMCXR_reports.tgz, or the folder ecgen-radiology")


def _files(place: Path) -> Iterator[tuple[str, bytes]]:
    if place.is_dir():
        for number, path in enumerate(
            sorted(place.rglob("*.xml"), key=lambda path: (len(path.name), path.name)), start=1
        ):
            yield f"{place.name} report file {number}", path.read_bytes()
        return
    if not place.is_file():
        raise DataError(f"--reports {place}: there is no such file or folder")
    try:
        with tarfile.open(place) as archive:
            members = [member for member in archive.getmembers() if member.name.endswith(".xml")]
            for number, member in enumerate(
                sorted(members, key=lambda member: (len(member.name), member.name)), start=1
            ):
                stream = archive.extractfile(member)
                yield f"{place.name} report file {number}", stream.read() if stream else b""
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise DataError(f"--reports {place} is no whole tar archive: download NLMCXR_reports.tgz again") from error


def _parse(name: str, data: bytes) -> OpeniReport:
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise DataError(f"{name} is no whole XML: unpack NLMCXR_reports.tgz again") from error
    identity = root.find("uId")
    number = re.fullmatch(r"CXR(\d+)", identity.get("id", "") if identity is not None else "")
    texts = {item.get("Label", ""): " ".join("".join(item.itertext()).split()) for item in root.iter("AbstractText")}
    if root.tag != "eCitation" or number is None or not set(SECTIONS) <= set(texts):
        raise DataError(
            f"{name} is no report of Open-i: expected eCitation with uId and AbstractText of {', '.join(SECTIONS)}"
        )
    return OpeniReport(
        number=number[1],
        where=name,
        sections={section: texts[section] for section in SECTIONS if texts[section]},
        terms=tuple((term.text or "").strip() for term in root.iter("major")),
        images=tuple(image.get("id", "") for image in root.iter("parentImage")),
    )


def dicom_path(image: str) -> str:
    """Return where the DICOM of an image lies: `CXR1_1_IM-0001-3001` is `1/1_IM-0001-3001.dcm`."""
    match = re.fullmatch(r"CXR(\d+)_(?:\1_)?(.*)", image)
    if match is None:
        raise DataError("an image id of the reports is not CXR1_IM-0001-3001: unpack NLMCXR_reports.tgz again")
    return f"{match[1]}/{match[1]}_{match[2]}.dcm"
