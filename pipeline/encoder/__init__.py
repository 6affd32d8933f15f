"""Frames -> latents of the frozen encoder. Nothing else of the pipeline imports torch."""
