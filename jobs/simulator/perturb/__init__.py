"""Perturbed variants of a task: camera, light, layout, language, noise."""
