"""Recordings, read back by Rerun's own reader."""
