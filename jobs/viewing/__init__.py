"""Samples, findings and rollouts as recordings of Rerun, to be looked at in its viewer."""
