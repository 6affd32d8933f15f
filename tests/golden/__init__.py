"""Tensors of the reference implementation that ours must reproduce."""
