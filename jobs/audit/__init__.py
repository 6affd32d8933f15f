"""Commands that prove a build leakage-free: audit, verify."""
