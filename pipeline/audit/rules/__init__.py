"""One rule of the specification a file, checked on the bytes of a build."""
