"""Rules on the bytes inside shards, and on what is computed from them."""
