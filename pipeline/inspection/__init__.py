"""Checks of raw datasets before a build."""
