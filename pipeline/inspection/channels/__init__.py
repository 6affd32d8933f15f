"""Checks of the channels of state and action."""
