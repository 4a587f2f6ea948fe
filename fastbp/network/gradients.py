"""Gradients of a network, named as its arrays are."""


class Gradients(list):
    """[(dW, db), ...] of a network, with gains, shifts, slopes, embeddings: views of one flat array."""

    def __init__(self, net, flat):
        views = net.named_views(flat, state=False)
        count = len(net.layers)
        super().__init__((views[f"weights.{k}"], views[f"biases.{k}"]) for k in range(count))
        for name in ("gains", "shifts", "slopes"):
            setattr(self, name, tuple(views.get(f"{name}.{k}") for k in range(count - 1)))
        self.embeddings = tuple(views[f"embeddings.{k}"] for k in range(len(net.embeddings)))
