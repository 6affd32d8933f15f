"""Studies in the LIBERO simulator, from demonstrations to success rates."""
