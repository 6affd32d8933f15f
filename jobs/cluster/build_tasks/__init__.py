"""The shards of a build as tasks on a Ray cluster."""
