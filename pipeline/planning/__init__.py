"""A dataset's index -> frozen shard tasks under a fingerprint, and what they will cost."""
