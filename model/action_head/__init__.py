"""The conditional flow-matching head."""
