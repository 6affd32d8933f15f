"""One attention function: xFormers on CUDA, SDPA on other devices."""
