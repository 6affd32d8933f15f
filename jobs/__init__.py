"""The commands: each parses a Hydra configuration once and calls `pipeline` and `model` with plain values."""
