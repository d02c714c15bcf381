"""Training and evaluation of the face enhancer."""
