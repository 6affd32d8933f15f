"""Numbers of the raw data that a state is compared with, field by field (rules L3, L8)."""
