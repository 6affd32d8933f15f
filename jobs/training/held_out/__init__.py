"""Held-out numbers: how well validation episodes are predicted, and what the predictions depend on."""
