"""The network: names and sizes of its layers, its weights as views of one flat array."""
