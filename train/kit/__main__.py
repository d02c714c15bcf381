"""`python -m train.kit`."""

import sys

from train.kit.cli import main

sys.exit(main())
