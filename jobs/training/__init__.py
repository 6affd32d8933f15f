"""`vlajepa train` and the commands about its checkpoints and costs."""
