"""Data sets that msvl reads: one file each."""

SOURCES: dict[str, str] = {
    "phantom": "msvl.data.sources.phantom",
    "table": "msvl.data.sources.table",
    "mimic-cxr-jpg": "msvl.data.sources.mimic_cxr_jpg",
    "rexgradient": "msvl.data.sources.rexgradient",
    "ms-cxr": "msvl.data.sources.ms_cxr",
    "chexpert": "msvl.data.sources.chexpert",
    "chexpert-plus": "msvl.data.sources.chexpert_plus",
    "rsna-pneumonia": "msvl.data.sources.rsna_pneumonia",
    "siim-acr": "msvl.data.sources.siim_acr",
    "nih-chestxray14": "msvl.data.sources.nih_chestxray14",
    "mimic-cxr": "msvl.data.sources.mimic_cxr",
    "iu-xray": "msvl.data.sources.iu_xray",
    "padchest": "msvl.data.sources.padchest",
    "vindr-cxr": "msvl.data.sources.vindr_cxr",
}
"""Name -> module with `add_arguments(parser)`, `from_arguments(arguments) -> Source` and a docstring for the list."""
