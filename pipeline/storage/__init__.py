"""Where bytes lie: a folder, a bucket, a cache."""
