"""Checks of what follows what: actions, states and pictures."""
