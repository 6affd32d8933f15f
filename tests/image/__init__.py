"""The image of the Dockerfile, built and used without Docker: `python -m tests.image`."""
