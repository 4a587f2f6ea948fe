"""python -m bench.ptx: see gpu/ptx.py."""

from .gpu.ptx import main

if __name__ == "__main__":
    main()
