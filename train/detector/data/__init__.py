"""The detector's training data."""
