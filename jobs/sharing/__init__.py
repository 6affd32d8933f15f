"""Builds and checkpoints sent to the Hugging Face Hub or to a bucket, with a page that says what they are."""
