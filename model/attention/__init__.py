"""Attention behind one function: xFormers on CUDA, SDPA elsewhere."""
