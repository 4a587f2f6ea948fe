"""Training: steps, epochs, what happens between them, and the file that keeps it."""
