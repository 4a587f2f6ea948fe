"""Other ways to a network: autoencoders, closed-form output layers, self-training."""
