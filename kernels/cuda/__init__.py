"""The GPU's kernels: twins of those in cpu/, and the one place that imports numba.cuda (device.py)."""
