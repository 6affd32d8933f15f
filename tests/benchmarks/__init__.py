"""Benchmarks: `python -m tests.benchmarks`. Nothing here is collected by pytest."""
