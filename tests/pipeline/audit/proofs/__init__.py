"""Tests of what a verdict says that it proves."""
