"""Tests. Each process of theirs computes with one thread: arrays are small, and threads would wait for each other."""

import os

# Before anything is imported that reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
