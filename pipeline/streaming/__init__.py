"""A build -> batches."""
