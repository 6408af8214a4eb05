"""Miniatures: small made-up data sets in the very layout of official ones, drawn from phantom patients."""

MINIATURES: dict[str, str] = {
    "mimic-cxr-jpg": "msvl.data.phantom.miniatures.mimic_cxr_jpg",
    "rexgradient": "msvl.data.phantom.miniatures.rexgradient",
    "ms-cxr": "msvl.data.phantom.miniatures.ms_cxr",
    "chexpert": "msvl.data.phantom.miniatures.chexpert",
    "chexpert-plus": "msvl.data.phantom.miniatures.chexpert_plus",
    "rsna-pneumonia": "msvl.data.phantom.miniatures.rsna_pneumonia",
    "siim-acr": "msvl.data.phantom.miniatures.siim_acr",
    "nih-chestxray14": "msvl.data.phantom.miniatures.nih_chestxray14",
    "mimic-cxr": "msvl.data.phantom.miniatures.mimic_cxr",
    "iu-xray": "msvl.data.phantom.miniatures.iu_xray",
    "padchest": "msvl.data.phantom.miniatures.padchest",
    "vindr-cxr": "msvl.data.phantom.miniatures.vindr_cxr",
}
"""Name of a source -> module with `write(folder, studies)` and `pack_words(folder)`, the arguments that pack what it wrote."""
