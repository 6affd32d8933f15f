"""Demonstrations from raw data to a report."""
