"""Files of weights -> the encoder's module: which are released, how they are named, and that nothing is left over."""
