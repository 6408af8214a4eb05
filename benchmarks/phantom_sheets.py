"""Make the phantom's pictures for the documentation.

python benchmarks/phantom_sheets.py --real ../shared/data/covid-cxr/images --nih ../shared/data/nih-samples
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from msvl.data.phantom.sheets import contact_sheet  # noqa: E402


def main() -> int:
    """Write docs/images/phantom-*.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="folder of real radiographs for the statistics (never copied)")
    parser.add_argument("--nih", type=Path, help="folder with NIH ChestX-ray14 radiographs to show")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images", help="folder to write")
    arguments = parser.parse_args()
    for file in contact_sheet(arguments.out, nih=_pictures(arguments.nih), real=_pictures(arguments.real)):
        sys.stdout.write(f"{file} {file.stat().st_size / 1024:.0f} KB\n")
    return 0


def _pictures(folder: Path | None) -> list[Path]:
    if folder is None:
        return []
    return sorted(path for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".jpeg"))


if __name__ == "__main__":
    sys.exit(main())
