"""Every file of a build written anew from what was parsed of it, and compared byte by byte."""
