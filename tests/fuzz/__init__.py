"""Random changes of every file that a command reads: no traceback, no hang, no silent acceptance."""
