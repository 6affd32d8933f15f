"""Checkpoints on disk, whole and sharded."""
