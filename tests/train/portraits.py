"""Drawn faces; the kit's self-test draws them too."""

from train.common.drawn_faces import draw, write_folder

__all__ = ["draw", "write_folder"]
