"""Checks of whole episodes: idle ends, lengths, texts, duplicates."""
