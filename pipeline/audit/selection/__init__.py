"""Which episodes, windows and shards a build must have by its raw data and settings (rules L6, L7)."""
