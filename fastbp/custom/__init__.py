"""The user's own activations and losses: traced once, then formulas like the others."""
