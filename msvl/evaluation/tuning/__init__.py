"""Training on labels: schedules, learning rates per block, networks on the image encoder, losses."""
