"""The phantom: a procedural simulator of frontal chest radiographs with reports, labels, masks and phrase boxes."""
