"""A checkpoint in the closed loop: what it sees, what it does, how often it succeeds."""
