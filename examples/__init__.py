"""Short scripts on real data. ``python -m examples`` runs them all and prints one table."""
