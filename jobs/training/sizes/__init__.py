"""What a model takes from the builds of a run: sizes, and the ranges of actions and state."""
