"""Samples made again from the raw data, and compared with the stored ones."""
