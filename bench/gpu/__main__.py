"""python -m bench.gpu: see card.py."""

import sys

from .card import main

if __name__ == "__main__":
    sys.exit(main())
