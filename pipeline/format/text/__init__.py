"""Text: where settings differ, patterns in them, and what is printed of names that may come from anybody."""
