"""Raw episodes to leakage-free shards, and shards to batches. Imports neither `model` nor `jobs`."""
