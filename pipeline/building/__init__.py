"""Shard tasks -> a committed build."""
