"""What the cameras of the raw data show of what is still to come (rule L1)."""
