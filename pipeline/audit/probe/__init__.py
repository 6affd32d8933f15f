"""Which later frames move what a function makes of a clip: level "perturb" for any pipeline."""
