"""The module for notebooks."""
