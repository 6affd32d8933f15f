"""Tests of the search for inputs that show later frames; the gallery has the leaks."""
