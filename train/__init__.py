"""Training and evaluation of the project's networks; needs the `train` extra."""
