"""The training loop of `vlajepa train` and its parts."""
