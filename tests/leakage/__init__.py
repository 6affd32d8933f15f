"""The gallery: deliberate leaks, each with the rule and the level that must find it."""
