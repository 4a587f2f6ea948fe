"""CONTRIBUTING.md's lists are complete: additions are made by them in a scratch tree, and work; with any one
file left out something is missing."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import complete
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def after(anchor, text):
    """What puts text behind the first place of an anchor."""
    return anchor, anchor + text


def before(anchor, text):
    return anchor, text + anchor


BENT = """
def bent(z):
    return (np.sqrt(z * z + 1) - 1) / 2 + z


def bent_derivative(z):
    return z / (2 * np.sqrt(z * z + 1)) + 1


"""
BENT_FORMULA = """
def _bent(m, z):
    root = m.sqrt(m.fma(z, z, 1.0))
    return m.fma(root - 1.0, 0.5, z), m.fma(z / root, 0.5, 1.0)


"""
QUARTIC = '''@dataclass
class Quartic(ByOutput):
    """The mean of (z - t)^4.

    >>> loss_of(fb.losses.Quartic(), [[2.0]], [[0.0]])
    16.0
    """

    name = "quartic"


'''
BELIEF = '''@dataclass
class AdaBelief(Optimizer):
    """Adam over the mean square of g - m: Zhuang et al., NeurIPS 2020.

    eps is added to that mean at each update: eps / (1 - beta2) in all, after its correction.
    """

    lr: float = 1e-3
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-16
    weight_decay: float = 0.0
    rule = codes.ADABELIEF

    def constants(self, t, lr, momentum):
        return super().constants(t, lr, momentum) | {
            **self._mean_constants(momentum, self.betas[1], self.eps),
            codes.C_LR: lr / (1.0 - _power(momentum, t)),
            codes.C_FULL: 1.0 / (1.0 - _power(self.betas[1], t)),
            codes.C_SPREAD: self.eps / (1.0 - self.betas[1]),
        }


'''
SAW = '''@dataclass
class Saw(Schedule):
    """lr (1 - (t mod period) / period).

    >>> fb.schedules.Saw(2).rates(np.arange(3), 1.0, None).tolist()
    [1.0, 0.5, 1.0]
    """

    period: int = 10
    by: str = "step"

    def rates(self, t, lr, total):
        return lr * (1 - t % self.period / self.period)


'''
# kind -> {file: changes}: an addition as a newcomer would make it, by the list
ADDITIONS = {
    "an activation": {
        "kernels/codes.py": [
            before("    PRELU,\n) = range(17)", "    BENT,\n"),
            (") = range(17)", ") = range(18)"),
            after("ACTIVATIONS = {\n", '    "bent": BENT,\n'),
            ("STORED = (", "STORED = (BENT, "),
        ],
        "kernels/formulas.py": [
            before("ACTIVATION = {", BENT_FORMULA),
            after("ACTIVATION_AND_SLOPE = {\n", "    codes.BENT: _bent,\n"),
        ],
        "kernels/reference/activations.py": [
            before("ACTIVATIONS = {", BENT),
            after("ACTIVATIONS = {  # name: (f, f')\n", '    "bent": (bent, bent_derivative),\n'),
        ],
        "fastbp/types.py": [after("ActivationName: TypeAlias = Literal[\n", '    "bent",\n')],
        "fastbp/export/onnxfile.py": [
            after("ACTIVATIONS = {\n", '    "bent": lambda g, z: g.op("Bent", z),\n')
        ],
        "fastbp/network/mlp.py": [after("hidden layers or one each: ", "bent, ")],
        "docs/api.md": [after("hidden layers or one each: ", "bent, ")],
        "docs/maths.md": [
            before("| relu |", "| bent | (√(z² + 1) - 1) / 2 + z | z / (2 √(z² + 1)) + 1 | input | |\n")
        ],
        "README.md": [after("| activations | ", "bent, ")],
        "docs/guide.md": [after("Activations, one for all hidden layers or one each: ", "bent, ")],
        "bench/unchanged.py": [after('"identity ', "bent ")],
    },
    "a loss": {
        "kernels/codes.py": [
            before(") = range(20)", "    QUARTIC,\n"),
            (") = range(20)", ") = range(21)"),
            after("LOSSES = {\n", '    "quartic": QUARTIC,\n'),
        ],
        "kernels/loss_formulas.py": [
            before(
                "def mean_over_outputs(",
                "def _quartic(m, z, t):\n    d = z - t\n    return d * d * d * d, 4.0 * d * d * d\n\n\n",
            ),
            after("BY_OUTPUT = {\n", '    codes.QUARTIC: {"formula": _quartic},\n'),
        ],
        "kernels/reference/losses.py": [
            before(
                "LOSSES = {",
                "def quartic(z, t):\n"
                "    return ((z - t) ** 4).mean(axis=1), 4 * (z - t) ** 3 / z.shape[1]\n\n\n",
            ),
            after("LOSSES = {\n", '    "quartic": quartic,\n'),
        ],
        "fastbp/losses/__init__.py": [
            after("__all__ = [\n", '    "Quartic",\n'),
            before("@dataclass\nclass MSE(", QUARTIC),
            after("    for kind in (CrossEntropy, ", "Quartic, "),
        ],
        "fastbp/types.py": [after("LossName: TypeAlias = Literal[\n", '    "quartic",\n')],
        "fastbp/training/trainer.py": [after("bce_with_logits, mse, ", "quartic, ")],
        "docs/api.md": [after("bce_with_logits, mse, ", "quartic, ")],
        "docs/maths.md": [before("| log_cosh |", "| quartic | mean of (z - t)⁴ | 4 (z - t)³ / C | z |\n")],
        "README.md": [before("focal, hinge, mse", "quartic, ")],
        "docs/guide.md": [before('`"huber"`, ', '`"quartic"`, ')],
        "tests/pages/public_api.txt": [before("fastbp.losses.MSE(", "fastbp.losses.Quartic()\n")],
        "tests/support/draw.py": [
            after("VARIANTS = {\n", '    "quartic": fb.losses.Quartic(),\n'),
            after("    plain = {\n", '        "quartic": lambda z, t: ((z - t) ** 4).mean(),\n'),
        ],
        "bench/parts/features.py": [after("        losses.MSE, ", "losses.Quartic, ")],
        "bench/unchanged.py": [before('        ("mae", ', '        ("quartic", losses.Quartic(), T),\n')],
    },
    "an optimizer": {
        "kernels/codes.py": [
            before("    LION,\n) = range(16)\nRULES = 16", "    ADABELIEF,\n"),
            (") = range(16)\nRULES = 16", ") = range(17)\nRULES = 17"),
            after("SLOTS = {\n", "    ADABELIEF: 2,\n"),
            before("C_AVERAGE = 12", "C_FULL, C_SPREAD = 8, 10\n"),
        ],
        "kernels/formulas.py": [
            before(
                "RULES = {",
                "def _adabelief(m, g, p, slots, c):\n"
                "    mean = m.fma(c[codes.C_BETA1], g - slots[0], slots[0])\n"
                "    off = g - mean\n"
                "    spread = m.fma(c[codes.C_BETA2], off * off - slots[1], slots[1])\n"
                "    square = m.fma(spread, c[codes.C_FULL], c[codes.C_SPREAD])\n"
                "    size = _square_root(m, square) + c[codes.C_EPS]\n"
                "    return m.fma(-c[codes.C_LR], _quotient(m, mean, size), p), [mean, spread]\n\n\n",
            ),
            after("RULES = {\n", "    codes.ADABELIEF: _adabelief,\n"),
        ],
        "kernels/reference/optimizers.py": [
            before(
                "OPTIMIZERS = {",
                "def adabelief(p, g, m, s, step, lr=1e-3, betas=(0.9, 0.999), eps=1e-16, weight_decay=0.0):\n"
                "    g = g + weight_decay * p\n    m[...] = betas[0] * m + (1 - betas[0]) * g\n"
                "    s[...] = betas[1] * s + (1 - betas[1]) * (g - m) ** 2 + eps\n"
                "    root = np.sqrt(s / (1 - betas[1] ** step))\n"
                "    p -= lr * m / (1 - betas[0] ** step) / (root + eps)\n\n\n",
            ),
            after(
                "torch's names of its slots)\n", '    "AdaBelief": (adabelief, ["exp_avg", "exp_avg_var"]),\n'
            ),
        ],
        "fastbp/optimizers.py": [
            after("__all__ = [\n", '    "AdaBelief",\n'),
            before("@dataclass\nclass Lion(", BELIEF),
            after("    for kind in (SGD, ", "AdaBelief, "),
        ],
        "fastbp/__init__.py": [
            before("    Lion,\n", "    AdaBelief,\n"),
            before('    "EarlyStopping",\n', '    "AdaBelief",\n'),
        ],
        "fastbp/types.py": [after("OptimizerName: TypeAlias = Literal[\n", '    "adabelief",\n')],
        "fastbp/training/trainer.py": [after("        SGD, ", "AdaBelief, ")],
        "fastbp/cli/command.py": [after('help="adam, ', "adabelief, ")],
        "docs/api.md": [after("SGD, Adam, AdamW,", " AdaBelief,")],
        "docs/maths.md": [
            before("| Lion |", "| AdaBelief | Adam, s ← β₂ s + (1 - β₂) (g - m)² + eps for v |\n")
        ],
        "README.md": [after("| optimizers | ", "AdaBelief, ")],
        "docs/guide.md": [after("`SGD Adam AdamW", " AdaBelief")],
        "docs/training.md": [after("`SGD Adam AdamW", " AdaBelief")],
        "tests/pages/public_api.txt": [before("fastbp.optimizers.Lion(", "fastbp.optimizers.AdaBelief()\n")],
        "tests/support/ways.py": [before('    "lion": ', '    "adabelief": fb.AdaBelief(0.01),\n')],
        "tests/kernels/test_kernels.py": [
            before(
                '    "lion": ',
                '    "adabelief": (codes.ADABELIEF, ADAM | {"C_FULL": 9.0, "C_SPREAD": 1e-3}),\n',
            ),
            before(
                "    if rule == codes.LION:\n",
                "    if rule == codes.ADABELIEF:\n"
                "        mean = slots[0] + beta1 * (g - slots[0])\n"
                "        spread = slots[1] + beta2 * ((g - mean) ** 2 - slots[1])\n"
                "        return mean / (np.sqrt(spread * c['full'] + c['spread']) + eps), [mean, spread]\n",
            ),
        ],
        "bench/parts/features.py": [
            before('    Feature("Lion"', '    Feature("AdaBelief", {"optimizer": fb.AdaBelief()}),\n')
        ],
        "bench/unchanged.py": [before('        "lion": ', '        "adabelief": optimizers.AdaBelief(),\n')],
    },
    "a kind of layer": {  # a twin of layer norm
        "kernels/codes.py": [
            (
                "NO_NORM, LAYER_NORM, BATCH_NORM = range(3)",
                "NO_NORM, LAYER_NORM, BATCH_NORM, TWIN_NORM = range(4)",
            ),
            after("NORMS = {", '"twin": TWIN_NORM, '),
        ],
        "kernels/cpu/layers.py": [
            ("norm == codes.LAYER_NORM:", "norm in (codes.LAYER_NORM, codes.TWIN_NORM):")
        ],
        "kernels/cuda/layers.py": [
            ("if norm != codes.LAYER_NORM:", "if norm != codes.LAYER_NORM and norm != codes.TWIN_NORM:"),
            ("if norm == codes.LAYER_NORM:", "if norm == codes.LAYER_NORM or norm == codes.TWIN_NORM:"),
        ],
        "kernels/reference/network.py": [after("NORMS = {", '"twin": 1, ')],
        "fastbp/types.py": [after("Norm: TypeAlias = Literal[", '"twin", ')],
        "fastbp/export/model.py": [before('    "layer": (', '    "twin": ("gains", "shifts"),\n')],
        "fastbp/network/mlp.py": [after("    norm : None, ", '"twin", ')],
        "fastbp/cli/command.py": [('help="layer or batch', 'help="layer, twin or batch')],
        "docs/api.md": [("norm : None, ", 'norm : None, "twin", ')],
        "docs/layers.md": [before("- **Batch norm**", '- **Twin norm**, `"twin"`, is layer norm.\n')],
        "docs/maths.md": [before("| layer norm (", "| twin norm | as layer norm | |\n")],
        "README.md": [after("| layers | dropout, ", "twin, ")],
        "bench/parts/layers.py": [before('    "layer norm": ', '    "twin norm": {"norm": "twin"},\n')],
        "bench/unchanged.py": [before('        "layer norm": ', '        "twin norm": {"norm": "twin"},\n')],
    },
    "a schedule": {
        "fastbp/schedules/__init__.py": [
            after("__all__ = [\n", '    "Saw",\n'),
            before("@dataclass\nclass Step(", SAW),
            after("    for kind in (\n", "        Saw,\n"),
        ],
        "fastbp/types.py": [after("ScheduleName: TypeAlias = Literal[\n", '    "saw",\n')],
        "docs/maths.md": [before("| Exponential |", "| Saw | lr (1 - (t mod period) / period) |\n")],
        "docs/training.md": [after("**Schedules**: `", "Saw ")],
        "README.md": [("ten schedules", "eleven schedules")],
        "docs/api.md": [before("### fastbp.schedules.Step", "### fastbp.schedules.Saw\n\n")],
        "tests/pages/public_api.txt": [before("fastbp.schedules.Step(", "fastbp.schedules.Saw()\n")],
        "tests/training/test_schedules.py": [
            after(
                "def test_rates_by_hand():\n",
                "    assert sc.Saw(2).rates(np.arange(3.0), 1.0, None).tolist() == [1, 0.5, 1]\n",
            )
        ],
    },
    "an option of the command line": {
        "fastbp/cli/command.py": [
            before(
                '    fit.add_argument("--clip-norm"',
                '    fit.add_argument("--max-norm", type=_positive, metavar="R", help="of a unit")\n',
            )
        ],
        "fastbp/cli/train.py": [
            after("        clip_norm=args.clip_norm,\n", "        max_norm=args.max_norm,\n")
        ],
        "docs/files.md": [after("`--clip-norm`, ", "`--max-norm`, ")],
        "tests/cli/test_cli.py": [
            before(
                '        (["train", "digits", "--clip-norm", "0"]',
                '        (["train", "digits", "--max-norm", "0"], ["--max-norm", "\'0\'"]),\n',
            )
        ],
    },
}
# what all of it together trains: against the reference, on the CPU, or in the simulator against the CPU
TRAIN = """
import sys
sys.path.insert(0, "tests/support")
import numpy as np
import fastbp as fb
import harness as h
from fastbp.kernels import reference as ref
from oracle import Oracle, flat, shaken
from ways import hyper, params64
OPTIMIZER = fb.AdaBelief(0.01, betas=(0.8, 0.95), eps=1e-8, weight_decay=0.01)
rng = np.random.default_rng(5)
X, y = rng.standard_normal((24, 6)), rng.standard_normal((24, 3))
def trained(device, dtype="float64", **options):
    net = fb.MLP([6, 9, 7, 3], "bent", seed=1, dtype=dtype, **options)
    trainer = fb.Trainer(net, "quartic", OPTIMIZER, 8, device=device)
    trainer.fit(X, y, epochs=3, shuffle=False, verbose=0)
    return net
if "cuda" in sys.argv:
    import simulator
    pairs = [[trained(device, norm=norm).params for device in ("cpu", "cuda")] for norm in (None, "twin")]
    assert all(h.relative(a, b) < 1e-11 for a, b in pairs)
else:
    exact = params64(fb.MLP([6, 9, 7, 3], "bent", seed=1, dtype="float64"))
    batches = [np.arange(s, s + 8) for s in (0, 8, 16)] * 3
    ref.train(exact, X, y, ["bent"] * 2, "quartic", *hyper(OPTIMIZER), batches)
    assert h.relative(np.concatenate([np.ravel(a) for p in params64(trained("cpu")) for a in p]),
                      np.concatenate([np.ravel(a) for p in exact for a in p])) < 1e-11
    assert (trained("cpu", norm="twin").params == trained("cpu", norm="layer").params).all()
    net = shaken(fb.MLP([6, 9, 7, 3], "bent", norm="twin", seed=1, dtype="float64"), rng)
    value, gradients = fb.Trainer(net, "quartic").gradients(X, y)
    assert abs(value - Oracle(net).gradients(X, y, "quartic")[0]) < 1e-10
    nets = [fb.MLP([6, 3], seed=0, dtype="float64") for _ in range(2)]
    for net, schedule in zip(nets, ("saw", lambda step: 0.1 * (1 - step % 10 / 10))):
        fb.Trainer(net, "quartic", fb.AdaBelief(0.1), 8, schedule=schedule).fit(X, y, epochs=5, shuffle=False)
    assert h.relative(nets[0].params, nets[1].params) < 1e-13
    from types import SimpleNamespace
    from fastbp.cli import command, train
    args = command._parser().parse_args(["train", "digits", "--max-norm", "1.5"])
    run = SimpleNamespace(task=SimpleNamespace(loss="mse", n_out=3), train=(X, y), batch=8)
    assert train._trainer(args, 6, run).max_norm == 1.5
"""


def places(kind):
    """The files that the list of a kind names in its points."""
    section = PAGE.split(f"### To add {kind}\n")[1].split("\n### ")[0]
    points = re.findall(r"^\d+\. .*?(?=^\d+\. |^\n|\Z)", section, re.M | re.S)
    named = [name for point in points for name in re.findall(r"`([\w/.]+\.(?:py|md|txt))`", point)]
    assert len(named) == len(set(named)), f"{kind}: named twice"
    return named


def changed(kind, without=None, root=ROOT):
    """{file: its text with an addition}, but for one file."""
    texts = {}
    for file, changes in ADDITIONS[kind].items():
        if file != without:
            text = (root / file).read_text(encoding="utf-8")
            for old, new in changes:
                assert old in text, f"{file}: {old!r} is there no more: mend ADDITIONS"
                text = text.replace(old, new, 1)
            texts[file] = text
    return texts


def copy(folder):
    """The parts of the tree that complete.py looks at."""
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("fastbp", "kernels", "docs", "bench", "tests"):
        shutil.copytree(ROOT / part, folder / part, symlinks=True, ignore=ignored)
    shutil.copy(ROOT / "README.md", folder)
    return folder


def run(folder, *command, **variables):
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"} | variables
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )


def lacking(folder):
    done = run(folder, ROOT / "tests" / "support" / "complete.py", folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return [copy(tmp_path_factory.mktemp("scratch")) for _ in range(2)]


def test_here_nothing_lacks():
    assert complete.lacks(ROOT) == []


@pytest.mark.parametrize("kind", ADDITIONS)
def test_the_list_names_what_an_addition_touches(kind):
    assert sorted(places(kind)) == sorted(ADDITIONS[kind])


@pytest.mark.parametrize("kind", ADDITIONS)
def test_every_place_is_needed(scratch, kind):
    """With all of them nothing lacks; without any one of them something does."""

    def outcome(folder, without):
        for file, text in changed(kind, without).items():
            (folder / file).write_text(text, encoding="utf-8")
        try:
            return lacking(folder)
        finally:
            for file in ADDITIONS[kind]:
                shutil.copy(ROOT / file, folder / file)

    left_out = [None, *ADDITIONS[kind]]
    with ThreadPoolExecutor(2) as pool:  # two trees, one process in each
        halves = [
            pool.submit(lambda k: {w: outcome(scratch[k], w) for w in left_out[k::2]}, k) for k in range(2)
        ]
        found = {without: text for half in halves for without, text in half.result().items()}
    assert found.pop(None) == ""
    assert [file for file, text in found.items() if not text] == []


def test_all_additions_together_train(tmp_path):
    """On both devices: compiled once, some 15 s."""
    folder = copy(tmp_path / "tree")
    for kind in ADDITIONS:
        for file, text in changed(kind, root=folder).items():
            (folder / file).write_text(text, encoding="utf-8")
    (folder / "train.py").write_text(TRAIN, encoding="utf-8")
    assert lacking(folder) == ""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = run(folder, "train.py", **cache)
    assert done.returncode == 0, done.stderr
    if find_spec("numba_cuda"):
        done = run(folder, "train.py", "cuda", NUMBA_ENABLE_CUDASIM="1", **cache)
        assert done.returncode == 0, done.stderr
