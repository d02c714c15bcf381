"""What makes a result checkable: frame hashes, a chained manifest of every decision, signatures, verify and replay."""
