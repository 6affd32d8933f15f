"""Readers of raw datasets, a file or folder for each type, behind the protocol of `base.py`."""
