"""Targets for every loss, as users give them; "/soft", "/labels" and such after a name are variants."""

import numpy as np

import fastbp as fb
from fastbp.kernels import codes
from fastbp.kernels import reference as ref

# variant -> the loss object; the reference takes the same constants
VARIANTS = {
    "cross_entropy": fb.losses.CrossEntropy(),
    "cross_entropy/soft": fb.losses.CrossEntropy(),
    "cross_entropy/smooth": fb.losses.CrossEntropy(label_smoothing=0.2),
    "cross_entropy/soft smooth": fb.losses.CrossEntropy(label_smoothing=0.1),
    "bce_with_logits": fb.losses.BCEWithLogits(),
    "mse": fb.losses.MSE(),
    "mae": fb.losses.MAE(),
    "huber": fb.losses.Huber(),
    "huber/0.3": fb.losses.Huber(0.3),
    "log_cosh": fb.losses.LogCosh(),
    "quantile": fb.losses.Quantile(),
    "quantile/two": fb.losses.Quantile([0.1, 0.7]),
    "quantile/ordered": fb.losses.Quantile([0.2, 0.5], ordered=True),
    "poisson_nll": fb.losses.PoissonNLL(),
    "gamma_nll": fb.losses.GammaNLL(),
    "gaussian_nll": fb.losses.GaussianNLL(),
    "gaussian_nll/eps": fb.losses.GaussianNLL(eps=0.5),
    "focal": fb.losses.Focal(multi_label=True),
    "focal/alpha": fb.losses.Focal(1.5, 0.25, multi_label=True),
    "focal/labels": fb.losses.Focal(),
    "focal/labels 0.5": fb.losses.Focal(0.5),
    "hinge": fb.losses.Hinge(multi_label=True),
    "hinge/labels": fb.losses.Hinge(),
    "hinge/labels 0.5": fb.losses.Hinge(0.5),
    "cosine": fb.losses.Cosine(),
}
EVEN = ("quantile/two", "quantile/ordered", "gaussian_nll", "gaussian_nll/eps")  # as many outputs
PAIRS = ("cross_entropy", "focal/labels", "hinge/labels")  # two outputs or more


def weighted(outputs):
    """Variants with a number for each output."""
    ramp = np.linspace(0.3, 2, outputs)
    return {
        "cross_entropy/weights": fb.losses.CrossEntropy(class_weight=ramp),
        "cross_entropy/smooth weights": fb.losses.CrossEntropy(0.1, class_weight=ramp),
        "cross_entropy/soft smooth weights": fb.losses.CrossEntropy(0.1, class_weight=ramp),
        "bce_with_logits/weights": fb.losses.BCEWithLogits(pos_weight=ramp),
    }


def fits(variant, outputs):
    return not (variant in EVEN and outputs % 2) and not (variant.startswith(PAIRS) and outputs < 2)


def by_output(variant, outputs):
    """Whether each output is treated alone: its target may be unknown, and has a weight."""
    loss = VARIANTS.get(variant) or weighted(outputs)[variant]
    return loss.code(outputs) not in codes.TOGETHER


def constants(loss):
    """What the reference takes beside the targets."""
    config = loss.config()
    return {
        k: v for k, v in config.items() if k not in ("name", "multi_label", "ignore_nan") and v is not None
    }


def targets(rng, variant, rows, outputs):
    name, _, kind = variant.partition("/")
    if "soft" in kind:
        return rng.dirichlet(np.ones(outputs), rows)
    if name == "cross_entropy" or "labels" in kind:
        return rng.integers(0, outputs, rows)
    if name == "bce_with_logits":
        return rng.uniform(0, 1, (rows, outputs))
    if name in ("focal", "hinge"):
        return rng.integers(0, 2, (rows, outputs)).astype(float)
    if name == "poisson_nll":
        return rng.poisson(2, (rows, outputs)).astype(float)
    if name == "gamma_nll":
        return rng.gamma(2, 1, (rows, outputs)) + 1e-3
    if variant in EVEN:
        outputs //= 2
    return 1.5 * rng.standard_normal((rows, outputs))


def problem(rng, loss, rows, inputs, outputs, soft=False):
    """(X, y as the Trainer takes it, y as the reference takes it)."""
    X = rng.standard_normal((rows, inputs))
    if loss == "cross_entropy":
        y = rng.integers(0, outputs, rows)
        if soft:
            y = rng.dirichlet(np.ones(outputs), rows)
    elif loss == "bce_with_logits":
        y = rng.integers(0, 2, (rows, outputs)).astype(float)
    else:
        y = rng.standard_normal((rows, outputs))
    return X, y


def near_a_kink(loss, z, t, reach, **constants):
    """Does the loss or its gradient jump within ``reach`` of z?"""
    if loss == "hinge" and t.ndim == 1:
        short = constants.get("margin", 1) - z[np.arange(len(z)), t][:, None] + z
        short[np.arange(len(z)), t] = 1
    elif loss == "hinge":
        short = constants.get("margin", 1) - np.where(t > 0, 1, -1) * z
    elif loss in ("mae", "quantile"):
        z = ref.link(loss, z, **constants) if constants.get("ordered") else z
        short = z - np.repeat(t, z.shape[1] // t.shape[1], axis=1)
    elif loss == "huber":
        short = np.abs(z - t) - constants.get("delta", 1)
    elif loss == "gaussian_nll":
        short = z[:, z.shape[1] // 2 :] - np.log(constants.get("eps", 1e-6))
    else:
        return False
    return bool(np.any(np.abs(short) < reach))


def outputs_off_kinks(rng, loss, t, outputs, reach, **constants):
    """z (rows, outputs) of size 1 with no kink near."""
    while True:
        z = rng.standard_normal((len(t), outputs))
        bad = [near_a_kink(loss, z[i : i + 1], t[i : i + 1], reach, **constants) for i in range(len(z))]
        if not any(bad):
            return z


def exact(variant, loss, z, t, weight=None):
    """(loss, gradient) by the reference."""
    return ref.loss_and_delta(variant.partition("/")[0], z, t, weight, **constants(loss))


def exact_link(variant, loss, z):
    given = constants(loss) if loss.name in ("gaussian_nll", "quantile") else {}
    name = "focal/labels" if variant.startswith("focal/labels") else loss.name
    return ref.link(name, z, **given)


def torch_loss(torch, variant, loss, z, t):
    """The mean loss over a batch by torch's own function, or by autograd through its definition."""
    F, c = torch.nn.functional, z.shape[1]
    name, _, kind = variant.partition("/")
    if name == "cross_entropy":
        weight = None if loss.class_weight is None else torch.tensor(loss.class_weight, dtype=torch.float64)
        return F.cross_entropy(z, t, weight, label_smoothing=loss.label_smoothing)
    if name == "bce_with_logits":
        weight = None if loss.pos_weight is None else torch.tensor(loss.pos_weight, dtype=torch.float64)
        return F.binary_cross_entropy_with_logits(z, t, pos_weight=weight)
    if name == "huber":
        return F.huber_loss(z, t, delta=loss.delta)
    if name == "quantile":
        if loss.ordered:
            low, high = torch.special.ndtri(torch.tensor(loss.quantiles, dtype=torch.float64))[[0, -1]]
            parts = z.reshape(len(z), -1, len(loss.quantiles))
            rises = F.softplus(parts[:, :, 1:]) * (high - low) / (parts.shape[2] - 1) / np.log(2)
            z = torch.cat([parts[:, :, :1] + low, rises], dim=2).cumsum(dim=2).reshape(z.shape)
        q = torch.tensor(loss.quantiles * (c // len(loss.quantiles)), dtype=torch.float64)
        d = t.repeat_interleave(len(loss.quantiles), dim=1) - z
        return torch.maximum(q * d, (q - 1) * d).mean()
    if name == "gaussian_nll":
        mean, log_variance = z.chunk(2, dim=1)
        least = torch.clamp(log_variance, min=np.log(loss.eps))  # its value; the slope goes on
        log_variance = log_variance + (least - log_variance).detach()
        return F.gaussian_nll_loss(mean, t, log_variance.exp(), eps=1e-300)
    if name == "focal" and "labels" in kind:
        log_p = F.log_softmax(z, dim=1).gather(1, t[:, None])
        return (-((1 - log_p.exp()) ** loss.gamma) * log_p).mean()
    if name == "focal":  # Lin et al., equation 5; torchvision's sigmoid_focal_loss
        p = torch.sigmoid(z)
        truth = torch.where(t > 0, p, 1 - p)
        alpha = 1 if loss.alpha is None else torch.where(t > 0, loss.alpha, 1 - loss.alpha)
        return (-alpha * (1 - truth) ** loss.gamma * truth.log()).mean()
    if name == "hinge" and "labels" in kind:
        return F.multi_margin_loss(z, t, margin=loss.margin)
    if name == "hinge":
        return torch.relu(loss.margin - torch.where(t > 0, 1.0, -1.0) * z).mean()
    if name == "cosine":
        return F.cosine_embedding_loss(z, t, torch.ones(len(z), dtype=torch.float64))
    plain = {
        "mse": F.mse_loss,
        "mae": F.l1_loss,
        "log_cosh": lambda z, t: torch.log(torch.cosh(z - t)).mean(),
        "poisson_nll": F.poisson_nll_loss,
        "gamma_nll": lambda z, t: (z + t * torch.exp(-z)).mean(),
    }
    return plain[name](z, t)
