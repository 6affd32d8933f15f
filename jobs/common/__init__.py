"""What several commands share: configuration, progress, signals, locks, text."""
