"""Where bytes are stored: a folder, a bucket, a cache."""
