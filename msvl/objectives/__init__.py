"""The four scales of arXiv 2401.01583 and their weighted sum."""
