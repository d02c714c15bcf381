"""`python -m train.quantize`."""

import sys

from train.quantize.cli import main

sys.exit(main())
