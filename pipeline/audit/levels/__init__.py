"""The levels of an audit, from the cheapest to the deepest: which checks run, and the verdict they add up to."""
