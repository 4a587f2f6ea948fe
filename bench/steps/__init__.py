"""A training step beside every peer: cases, peers in processes of their own, tables and pictures."""
