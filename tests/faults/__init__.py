"""Kills, full disks and failing stores at any moment: what is left can be gone on from."""
