"""RLDS (TFDS) datasets."""
