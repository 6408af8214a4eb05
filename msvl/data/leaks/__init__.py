"""Which patients, images and texts packed sets, splits and published lists have in common."""
