"""Kernels: arrays and integers in, arrays out. Nothing here knows what a Trainer is; see README.md."""
