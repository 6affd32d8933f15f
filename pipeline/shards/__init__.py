"""The files of a shard, written and read."""
