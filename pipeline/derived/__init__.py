"""Builds made from finished builds: drop, merge, extend."""
