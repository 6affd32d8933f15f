"""Frames of video files and of stored images."""
