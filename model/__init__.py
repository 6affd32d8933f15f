"""The VLA-JEPA student, predictor and action head. Of `pipeline` it imports the schema and the errors alone."""
