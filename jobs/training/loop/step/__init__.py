"""One optimiser step: micro batches, their passes, the update, and the numbers it reports."""
