"""Data sets that msvl reads: one file each."""

SOURCES: dict[str, str] = {
    "phantom": "msvl.data.sources.phantom",
    "table": "msvl.data.sources.table",
    "mimic-cxr-jpg": "msvl.data.sources.mimic_cxr_jpg",
    "rexgradient": "msvl.data.sources.rexgradient",
    "ms-cxr": "msvl.data.sources.ms_cxr",
    "chexpert": "msvl.data.sources.chexpert",
    "chexpert-plus": "msvl.data.sources.chexpert_plus",
}
"""Name -> module with `add_arguments(parser)`, `from_arguments(arguments) -> Source` and a docstring for the list."""
