"""Benchmarks of fastbp beside NumPy and what else trains such networks: `python -m bench --help`."""
