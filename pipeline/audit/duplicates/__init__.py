"""Near-duplicates between splits: the same film under two ids, whatever ordinary change was made to it (rule L6)."""
