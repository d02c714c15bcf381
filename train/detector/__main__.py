"""``python -m train.detector``."""

from train.detector.cli import main

main()
