"""Random combinations trained beside torch: python tests/support/combinations.py --count 500 --seed 0

A torch.nn.Module is built from the drawn description alone: torch's modules, losses, optimizers, schedulers,
clipping and averages. No reference of ours, no from_torch, takes part. Several steps; then weights, the
average, running statistics, losses and outputs are compared, to a bound that torch itself gives: how far it
ends from there if every parameter is changed by one rounding error, or in float32. Needs torch.
"""

import argparse
import math
import random
import sys
from pathlib import Path

if __name__ == "__main__":  # as a script: the checkout that it lies in
    sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import numpy as np
import torch
import ways
from cases import Exact, case, near_a_kink
from torch import nn
from torch.nn import functional as F

import fastbp as fb

MODULES = {
    "identity": nn.Identity, "relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh, "elu": nn.ELU, "celu": nn.CELU, "selu": nn.SELU, "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU("tanh"), "silu": nn.SiLU, "mish": nn.Mish, "softplus": nn.Softplus,
    "softsign": nn.Softsign, "hardtanh": nn.Hardtanh, "hardswish": nn.Hardswish,
}  # fmt: skip
SCHEDULES = {
    "none": (None, None),
    "step": (fb.schedules.Step(1, 0.5), lambda o, _: torch.optim.lr_scheduler.StepLR(o, 1, 0.5)),
    "exponential": (fb.schedules.Exponential(0.8),
                    lambda o, _: torch.optim.lr_scheduler.ExponentialLR(o, 0.8)),
    "cosine": (fb.schedules.Cosine(), torch.optim.lr_scheduler.CosineAnnealingLR),
    "polynomial": (fb.schedules.Polynomial(power=2.0),
                   lambda o, total: torch.optim.lr_scheduler.PolynomialLR(o, total, 2.0)),
}  # fmt: skip
BY_UPDATE = ("cosine", "polynomial")


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(x)


class Layer(nn.Module):
    """Linear, norm, activation, and the skip around them."""

    def __init__(self, inputs, outputs, norm, activation, skip):
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.norm = {"layer": nn.LayerNorm, "batch": nn.BatchNorm1d, None: None}[norm]
        self.norm = self.norm and self.norm(outputs)
        self.activation = nn.PReLU(outputs) if activation == "prelu" else MODULES.get(activation, Sine)()
        self.skip, self.seen = skip, None

    def forward(self, x):
        y = self.linear(x)
        self.seen = y = self.norm(y) if self.norm else y
        return self.activation(y) + x if self.skip else self.activation(y)

    def parts(self):
        """{our name: torch's parameter or buffer}."""
        found = {"weights": self.linear.weight, "biases": self.linear.bias}
        if self.norm:
            found |= {"gains": self.norm.weight, "shifts": self.norm.bias}
        if isinstance(self.norm, nn.BatchNorm1d):
            found |= {"running_means": self.norm.running_mean, "running_vars": self.norm.running_var}
        if isinstance(self.activation, nn.PReLU):
            found["slopes"] = self.activation.weight
        return found


class Network(nn.Module):
    """What an MLP of these sizes and options is, in torch."""

    def __init__(self, sizes, activation=(), norm=None, residual=None, embeddings=None, dtype=None):
        super().__init__()
        depth, embeddings = len(sizes) - 2, embeddings or {}
        self.columns = sorted(embeddings)
        self.numeric = [c for c in range(sizes[0]) if c not in embeddings]
        self.tables = nn.ModuleList(nn.Embedding(*embeddings[c]) for c in self.columns)
        widths = [len(self.numeric) + sum(t.embedding_dim for t in self.tables), *sizes[1:]]
        self.hidden = nn.ModuleList(
            Layer(*widths[k : k + 2], (norm or [None] * depth)[k], activation[k], residual and residual[k])
            for k in range(depth)
        )
        self.last = nn.Linear(*widths[-2:])

    def forward(self, X):
        tables = [table(X[:, c].long()) for c, table in zip(self.columns, self.tables, strict=True)]
        x = torch.cat([X[:, self.numeric], *tables], dim=1)
        for layer in self.hidden:
            x = layer(x)
        return self.last(x)

    def named(self):
        """{our name: torch's parameter or buffer}."""
        layers = [layer.parts() for layer in self.hidden]
        layers.append({"weights": self.last.weight, "biases": self.last.bias})
        found = {f"{name}.{k}": p for k, parts in enumerate(layers) for name, p in parts.items()}
        return found | {f"embeddings.{k}": table.weight for k, table in enumerate(self.tables)}

    def arrays(self, others=None):
        """{our name: array, shaped as ours}."""
        named = self.named() if others is None else others
        return {
            name: (p.T if name.startswith("weights") else p).detach().numpy().astype(float)  # a copy
            for name, p in named.items()
        }


def values(c, z, t):
    """Each sample's loss (N,), or each target's (N, K), whose weighted mean the loss is."""
    loss, name, labels = c.loss, c.loss.name, t.dim() == 1
    vector = lambda v: None if v is None else torch.tensor(v, dtype=z.dtype)  # noqa: E731
    if name == "cross_entropy":
        weight = vector(loss.class_weight)
        return F.cross_entropy(z, t, weight, reduction="none", label_smoothing=loss.label_smoothing)
    if name == "bce_with_logits":
        pos = vector(loss.pos_weight)
        return F.binary_cross_entropy_with_logits(z, t, pos_weight=pos, reduction="none")
    if name == "quantile":
        q = vector(loss.quantiles)
        parts = z.unflatten(1, (t.shape[1], len(q)))
        if loss.ordered:
            normal = torch.distributions.Normal(0.0, 1.0)
            low, high = normal.icdf(q[0].double()), normal.icdf(q[-1].double())
            rises = F.softplus(parts[..., 1:]) * (high - low) / (len(q) - 1) / np.log(2)
            parts = torch.cat([parts[..., :1] + low, rises], dim=2).cumsum(dim=2)
        d = t.unsqueeze(2) - parts
        return torch.maximum(q * d, (q - 1) * d).mean(dim=2)
    if name == "gaussian_nll":
        mean, s = z.chunk(2, dim=1)
        s = s + (s.clamp(min=np.log(loss.eps)) - s).detach()  # below eps the gradient goes on
        return (s + (mean - t) ** 2 / s.exp()) / 2
    if name == "focal" and labels:
        log_p = F.log_softmax(z, dim=1).gather(1, t[:, None])[:, 0]
        return -((1 - log_p.exp()) ** loss.gamma) * log_p
    if name == "focal":
        log_p = F.logsigmoid(torch.where(t > 0, z, -z))
        alpha = 1 if loss.alpha is None else torch.where(t > 0, loss.alpha, 1 - loss.alpha)
        return -alpha * (1 - log_p.exp()) ** loss.gamma * log_p
    if name == "hinge" and labels:
        return F.multi_margin_loss(z, t, margin=loss.margin, reduction="none")
    if name == "hinge":
        return torch.relu(loss.margin - torch.where(t > 0, z, -z))
    if name == "cosine":
        return F.cosine_embedding_loss(z, t, torch.ones(len(z), dtype=z.dtype), reduction="none")
    if name == "huber":
        return F.huber_loss(z, t, reduction="none", delta=loss.delta)
    return {
        "mse": lambda: F.mse_loss(z, t, reduction="none"),
        "mae": lambda: F.l1_loss(z, t, reduction="none"),
        "log_cosh": lambda: F.softplus(2 * (z - t)) - (z - t) - np.log(2),
        "poisson_nll": lambda: F.poisson_nll_loss(z, t, reduction="none"),
        "gamma_nll": lambda: z + t * torch.exp(-z),
    }[name]()


def batch_loss(c, z, t, weight):
    """(sum of the weighted losses, of the weights) of a batch."""
    known = torch.ones_like(t, dtype=torch.bool) if t.dim() == 1 else ~t.isnan()
    each = values(c, z, torch.where(known, t, torch.zeros_like(t)))
    if each.dim() == 2:
        weight = torch.ones_like(each) if weight is None else weight
        share = (weight[:, None] if weight.dim() == 1 else weight) * known.to(each.dtype)
        return (share * each).sum() * 1.0, share.sum()
    share = torch.ones_like(each) if weight is None else weight
    total = (share * each).sum()
    if c.loss.name == "cross_entropy" and t.dim() == 1 and c.loss.class_weight is not None:
        share = share * torch.tensor(c.loss.class_weight, dtype=z.dtype)[t]
    return total, share.sum()


class Near(Exception):
    """A number came so near to a kink that rounding decides."""


def by_torch(c, net, epochs, schedule, dtype, nudge=None):
    """Train; returns what is compared: weights, average, running statistics, losses, outputs."""
    with_dtype = lambda a: torch.tensor(np.ascontiguousarray(a), dtype=dtype)  # noqa: E731
    model = Network(c.sizes, **c.options).to(dtype)
    rng = np.random.default_rng(0 if nudge is None else nudge)
    eps = 0.0 if nudge is None else np.finfo(c.options["dtype"]).eps
    ours = net.named_views(net.params)
    with torch.no_grad():
        for name, p in model.named().items():
            given = ours[name].astype(float) * (1 + eps * rng.choice([-1.0, 1.0], ours[name].shape))
            p.copy_(with_dtype(given.T if name.startswith("weights") else given))
    X = with_dtype(c.X.astype(float))
    t = torch.from_numpy(c.y) if c.y.ndim == 1 else with_dtype(c.y)
    weight = None if c.weight is None else with_dtype(c.weight)
    training = c.training
    factors = training.get("lr_factors", [1] * (len(c.sizes) - 1))
    optimizer, scheduler, groups = optimizer_of(c, model, factors, epochs, schedule)
    average = torch.optim.swa_utils.get_ema_multi_avg_fn(training["ema"]) if "ema" in training else None
    trained = {n: p for n, p in model.named().items() if not n.startswith("running")}
    means, updates, losses = None, 0, []
    every, starts = training.get("accumulate", 1), list(range(0, len(X), c.batch))
    for _ in range(epochs):
        total, mass, count = 0.0, 0.0, 0
        for start in starts:
            rows = slice(start, start + c.batch)
            model.train()
            for layer, factor in zip(model.hidden, factors, strict=False):
                if factor == 0 and layer.norm:
                    layer.norm.eval()
            z = model(X[rows])
            watch(c, model, z, rows)
            part, share = batch_loss(c, z, t[rows], None if weight is None else weight[rows])
            (part / share).backward()
            total, mass, count = total + part.item(), mass + share.item(), count + 1
            if count == every or start == starts[-1]:
                step(c, groups, optimizer, count)
                count, updates = 0, updates + 1
                if scheduler and schedule in BY_UPDATE:
                    scheduler.step()
                if average and means is None:
                    means = {n: p.detach().clone() for n, p in trained.items()}
                elif average:
                    average(list(means.values()), [p.detach() for p in trained.values()], updates)
        losses.append(total / mass)
        if scheduler and schedule not in BY_UPDATE:
            scheduler.step()
    model.eval()
    with torch.no_grad():
        arrays = model.arrays()
        averages = None if means is None else model.arrays(means)
        for name, p in trained.items() if means is not None else ():
            p.copy_(means[name])
        outputs = model(X).numpy()
    return results(arrays, averages, losses, outputs)


def watch(c, model, z, rows):
    layers = [{"y": layer.seen.detach().numpy()} for layer in model.hidden] + [{"a": z.detach().numpy()}]
    if near_a_kink(c, layers, rows):
        raise Near


def optimizer_of(c, model, factors, epochs, schedule):
    """(torch's optimizer, its scheduler, the parameters that are clipped together)."""
    rule = ways.OPTIMIZERS[c.optimizer]
    config = rule.config()
    del config["name"]
    groups, by_layer = [], {}
    for name, p in model.named().items():
        if name.startswith("running"):
            continue
        kind, k = name.split(".")
        factor = factors[0 if kind == "embeddings" else int(k)]
        p.requires_grad_(factor != 0)
        if factor == 0:
            continue
        bare = kind not in ("weights", "embeddings") and not c.training.get("decay_bias", True)
        one = {"params": [p], "lr": config["lr"] * factor, "bare": bare, "kind": kind}
        if bare and "weight_decay" in config:
            one["weight_decay"] = 0.0
        groups.append(one)
        by_layer.setdefault(name if kind == "embeddings" else k, []).append(p)
    optimizer = getattr(torch.optim, type(rule).__name__)(groups, **config)
    if SCHEDULES[schedule][1] is None:
        return optimizer, None, by_layer
    batches = math.ceil(len(c.X) / c.batch)
    updates = epochs * math.ceil(batches / c.training.get("accumulate", 1))
    return optimizer, SCHEDULES[schedule][1](optimizer, updates), by_layer


def step(c, by_layer, optimizer, count):
    """One update from the sum of ``count`` batches' gradients."""
    training = c.training
    parameters = [p for members in by_layer.values() for p in members]
    for p in parameters:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad / count
    if "clip_norm" in training:
        nn.utils.clip_grad_norm_(parameters, training["clip_norm"])
    for members in by_layer.values() if "clip_layer_norm" in training else ():
        nn.utils.clip_grad_norm_(members, training["clip_layer_norm"])
    if "clip_value" in training:
        nn.utils.clip_grad_value_(parameters, training["clip_value"])
    for group in optimizer.param_groups:
        if not group["bare"]:
            group["params"][0].grad += training.get("l1", 0.0) * group["params"][0].detach().sign()
    optimizer.step()
    optimizer.zero_grad()
    with torch.no_grad():
        for group in optimizer.param_groups if "max_norm" in training else ():
            if group["kind"] == "weights":
                group["params"][0].copy_(torch.renorm(group["params"][0], 2, 0, training["max_norm"]))


def results(arrays, averages, losses, outputs):
    flat = lambda chosen: np.concatenate([a.ravel() for _, a in sorted(chosen.items())])  # noqa: E731
    running = {n: a for n, a in arrays.items() if n.startswith("running")} or {"": np.zeros(1)}
    trained = {n: a for n, a in arrays.items() if not n.startswith("running")}
    return flat(trained), flat(trained if averages is None else averages), flat(running), losses, outputs


def by_us(c, epochs, schedule):
    """The same of a Trainer."""
    t = c.trainer(schedule=SCHEDULES[schedule][0])
    history = t.fit(c.X, c.y, epochs, sample_weight=c.weight, shuffle=False, verbose=0).history
    views = {n: v.copy() for n, v in t.net.named_views(t.net.params).items()}
    averages = None
    if t.ema is not None:
        net = t.averaged_net()
        averages = {n: v for n, v in net.named_views(net.params).items() if not n.startswith("running")}
    return results(views, averages, history["loss"], t.forward(c.X)), t.steps


def compare(seed):
    """One combination: "same"; "near" where a kink was so near that nothing can be said; or what differs."""
    chance = random.Random(seed)
    c = case(chance, dropout=False, rows=50)
    if c.optimizer.startswith("lion"):  # which torch has not
        c.optimizer = "adamw"
    epochs, schedule = chance.choice([1, 2, 3]), chance.choice(list(SCHEDULES))
    net = c.net()
    try:
        with np.errstate(all="ignore"):
            found = [by_torch(c, net, epochs, schedule, torch.float64, n) for n in (None, 1, 2)]
            single = by_torch(c, net, epochs, schedule, torch.float32)
    except Near:
        return "near"
    try:
        ours, steps = by_us(c, epochs, schedule)
        wanted = Exact(c.options["dtype"], found[0], found[1:], single)
        wanted.check(*ours, terms=steps * np.linalg.norm(found[0][0]))
    except Exception as error:
        return f"seed {seed}, {epochs} epochs, schedule {schedule}: {type(error).__name__} {error}\n{c}"
    return "same"


def battery(count, seed):
    """({what was seen: how many}, what is not as in torch)."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    counts, findings = {"same": 0, "near": 0}, []
    torch.set_default_dtype(torch.float64)  # of torch's own scalars: NAdam's product of momenta
    torch.set_num_threads(1)  # for a few numbers
    try:
        for k in range(count):
            said = compare(seed + k)
            if said in counts:
                counts[said] += 1
            else:
                findings.append(said)
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
    return counts, findings


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    counts, findings = battery(args.count, args.seed)
    print(*findings, sep="\n", end="\n" * bool(findings))
    print(f"{args.count} combinations: {counts['same']} as torch, {counts['near']} too near to a kink to say")
    return int(bool(findings))


if __name__ == "__main__":
    sys.exit(main())
