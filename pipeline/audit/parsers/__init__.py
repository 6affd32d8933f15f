"""The files of a build, parsed byte by byte without a library's tolerance."""
