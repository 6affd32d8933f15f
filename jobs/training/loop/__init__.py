"""The training loop: data, optimiser, checkpoints, held-out losses."""
