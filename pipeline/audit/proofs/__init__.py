"""What a verdict proves, rule by rule: what was checked at its level, and how."""
