"""The policy server as a model server of vla-eval (PyPI `vla-eval`), at the path /vla-eval."""
