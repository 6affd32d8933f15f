"""The VLA-JEPA student, predictor and action head. Of `pipeline` it imports the format and the errors alone."""
