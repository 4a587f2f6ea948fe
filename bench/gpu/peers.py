"""The peers on a GPU: the data, weights and batches of peers.py, everything on the device."""

import importlib.util

import numpy as np

from ..steps.peers import Fastbp
from ..steps.peers_compiled import Jax, Torch


class FastbpCuda(Fastbp):
    """fastbp.Trainer(device="cuda")."""

    def build(self):
        import fastbp as fb

        case = self.case
        kind = {"adam": fb.Adam, "sgd": fb.SGD}[case.optimizer]
        self.net = fb.MLP(case.sizes, case.activation, seed=0)
        self.trainer = fb.Trainer(self.net, case.loss, kind(case.lr), case.batch, seed=0, device="cuda")

    def epochs(self, orders):
        """(mean losses, seconds) of an epoch each, in one fit."""
        history = self.trainer.fit(self.X, self.y, epochs=len(orders), verbose=0).history
        return history["loss"], history["seconds"]


class TorchCuda(Torch):
    """torch eager on the GPU, float32 proper (no tf32), fused optimizer, data resident."""

    def build(self):
        import torch

        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        super().build()
        self.net.cuda()
        self.X, self.y = self.X.cuda(), self.y.cuda()

    def epoch(self, order):
        torch, optimizer = self.torch, self.optimizer
        order = torch.from_numpy(order).cuda()
        X, y = self.X.index_select(0, order), self.y.index_select(0, order)
        total = torch.zeros((), device="cuda")
        for x, t in zip(X.split(self.case.batch), y.split(self.case.batch), strict=True):
            total += self.step(x, t, optimizer)
        return float(total) / self.case.steps

    def step(self, x, t, optimizer):
        loss = self.loss(x, t)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()


class TorchAutotune(TorchCuda):
    """The same with torch.compile(mode="max-autotune")."""

    def compiled(self, loss):
        self.torch.compiler.reset()
        return self.torch.compile(loss, fullgraph=True, dynamic=False, mode="max-autotune")


class TorchGraph(TorchCuda):
    """The same, a whole step captured in a CUDA graph and replayed."""

    def reset(self):
        super().reset()
        torch, case = self.torch, self.case
        kind = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[case.optimizer]
        options = {"capturable": True} if case.optimizer == "adam" else {}
        self.optimizer = kind(self.net.parameters(), lr=case.lr, fused=True, **options)
        self.x, self.t = self.X[: case.batch].clone(), self.y[: case.batch].clone()
        self.total = torch.zeros((), device="cuda")
        kept = [p.detach().clone() for p in self.net.parameters()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # warming up, as torch's documentation of graphs asks for
            for _ in range(3):
                self.step(self.x, self.t, self.optimizer)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.total += self.step(self.x, self.t, self.optimizer)
        with torch.no_grad():  # back to the beginning, in place: the graph holds these addresses
            for p, old in zip(self.net.parameters(), kept, strict=True):
                p.copy_(old)
            for state in self.optimizer.state.values():
                for value in state.values():
                    value.zero_()

    def epoch(self, order):
        torch, batch = self.torch, self.case.batch
        order = torch.from_numpy(order).cuda()
        X, y = self.X.index_select(0, order), self.y.index_select(0, order)
        self.total.zero_()
        for x, t in zip(X.split(batch), y.split(batch), strict=True):
            self.x.copy_(x), self.t.copy_(t)
            self.graph.replay()
        return float(self.total) / self.case.steps


class JaxCuda(Jax):
    """JAX: a jitted scan over the epoch, on its GPU, float32 proper."""

    platform = None

    def build(self):
        import jax

        jax.config.update("jax_default_matmul_precision", "highest")
        if jax.default_backend() != "gpu":
            raise RuntimeError(f"jax: its backend is {jax.default_backend()!r}, not a GPU")
        super().build()


PEERS = {
    "fastbp": (FastbpCuda, "numba_cuda"),
    "torch eager": (TorchCuda, "torch"),
    "torch.compile": (TorchAutotune, "torch"),
    "torch graphs": (TorchGraph, "torch"),
    "jax": (JaxCuda, "jax"),
}


def installed():
    """Names of the peers that can run on this machine's GPU, fastbp first."""
    here = [name for name, (_, needs) in PEERS.items() if importlib.util.find_spec(needs)]
    if any(name.startswith("torch") for name in here):
        import torch

        if not torch.cuda.is_available():
            here = [name for name in here if not name.startswith("torch")]
    return here


def tensor_tflops(size=8192, tries=5):
    """Tensor-core TFLOP/s in bfloat16, by torch's matrix product; None without torch on this GPU."""
    if "torch eager" not in installed():
        return None
    import torch

    a, b = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    spans = []
    for _ in range(tries):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ b
        end.record()
        torch.cuda.synchronize()
        spans.append(start.elapsed_time(end))
    return 2e-9 * size**3 / float(np.median(spans[1:]))
