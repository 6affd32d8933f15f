"""Readers of raw datasets, one type a file, behind the protocols of `base.py`."""
