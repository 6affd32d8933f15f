"""Rules of the specification on the bytes of a build, one subject a file."""
