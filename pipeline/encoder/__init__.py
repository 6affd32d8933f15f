"""Frames -> latents of the frozen encoder. torch is imported here alone."""
