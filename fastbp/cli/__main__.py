"""``python -m fastbp.cli``."""

import sys

from .command import main

sys.exit(main())
