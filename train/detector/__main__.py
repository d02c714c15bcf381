"""`python -m train.detector`."""

import sys

from train.detector.cli import main

sys.exit(main())
