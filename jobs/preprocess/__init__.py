"""Commands that make builds: plan, preprocess, status, drop, merge, extend."""
