"""`vlajepa collect`: demonstrations."""
