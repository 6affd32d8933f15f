"""`vlajepa report`: a training run as one page."""
