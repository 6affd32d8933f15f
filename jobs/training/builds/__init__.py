"""The builds that a run trains on: opened with their verdicts, and what they have in common."""
