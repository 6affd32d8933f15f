"""The JSON files of a build: read with suspicion, as closed types."""
