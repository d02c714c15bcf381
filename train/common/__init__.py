"""What the training of both networks shares."""
