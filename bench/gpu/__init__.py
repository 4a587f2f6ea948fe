"""What a GPU is measured by: `python -m bench.gpu` on a card, `python -m bench.ptx` without one."""
