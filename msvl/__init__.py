"""msvl: pretrain and judge radiology vision-language foundation models on GPU clusters (arXiv 2401.01583)."""

__version__ = "0.1.0"
