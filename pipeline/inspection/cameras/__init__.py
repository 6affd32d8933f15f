"""Checks of pictures: still, dark, blown out, changing exposure, drifting rate."""
