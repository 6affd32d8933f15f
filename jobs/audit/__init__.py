"""Commands that prove a build leakage-free: audit, verify; and probe, for the data of other pipelines."""
