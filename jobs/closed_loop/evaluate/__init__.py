"""`vlajepa evaluate`: success rates."""
