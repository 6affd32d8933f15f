"""`vlajepa probe`: the context of another pipeline, or its cache, put to the test of level perturb."""
