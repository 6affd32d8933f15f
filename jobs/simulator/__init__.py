"""What runs inside a simulator's own environment, whose packages never meet ours.

The folder is loaded by the simulator's Python as a package of its own (see `jobs.closed_loop.process`). Its modules
therefore import the standard library, NumPy, the simulator's packages and each other, by relative imports, and nothing
else of this project; the import contract holds them to it.
"""
