"""Builds and checkpoints in places of others."""
