"""LIBERO-Plus's own tasks (arXiv 2510.13626), read from its package and played in LIBERO."""
