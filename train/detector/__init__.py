"""Training and evaluation of the face detector."""
