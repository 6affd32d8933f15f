"""What a policy server counts, for its log and for Prometheus."""
