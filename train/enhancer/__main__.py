"""`python -m train.enhancer`."""

import sys

from train.enhancer.cli import main

sys.exit(main())
