"""Code that runs in a simulator's own Python: it imports NumPy, the simulator's packages and this folder alone."""
