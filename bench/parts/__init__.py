"""What `python -m bench --NAME` measures instead of the six workloads: a module each, with a main(args)."""
