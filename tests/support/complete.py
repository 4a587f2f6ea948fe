"""What every activation, loss, optimizer, norm, schedule and option has beside its code, read off one tree.

``python tests/support/complete.py FOLDER`` prints a line for each thing that one of them lacks; it compiles
nothing. tests/pages/test_contributing.py runs it on scratch trees too.
"""

import re
import sys
from pathlib import Path

import numpy as np

NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen".split()


class Tree:
    """The files of a checkout, and what is absent."""

    def __init__(self, root):
        self.root, self.lacks = Path(root), []

    def text(self, path):
        return (self.root / path).read_text(encoding="utf-8")

    def want(self, there, kind, name, where):
        if not there:
            self.lacks.append(f"{kind} {name}: not in {where}")

    def words(self, kind, name, *paths, word=None):
        """Each of the files has the name as a word."""
        pattern = rf"(?<![\w-]){re.escape(word or name)}(?!\w)"
        for path in paths:
            self.want(re.search(pattern, self.text(path)), kind, name, path)

    def row(self, kind, name, section):
        """docs/maths.md has it in the first cell of a row of a section's table."""
        part = self.text("docs/maths.md").split(f"\n## {section}\n")[1].split("\n## ")[0]
        heads = re.findall(r"^\| (.*?) \|", part, re.M)
        self.want(any(name in re.findall(r"\w+", head) for head in heads), kind, name, "docs/maths.md")


def activations(tree):
    from fastbp import types
    from fastbp.dev import value_and_slope
    from fastbp.export import onnxfile
    from fastbp.kernels import arrays, codes, reference

    m, z = arrays.Maths("float64"), np.array([-3.0, -0.7, 0.3, 2.0])
    for name, code in codes.ACTIVATIONS.items():
        exact = reference.activation(name, z), reference.activation_derivative(name, z)
        right = np.allclose(value_and_slope(m, code, z), exact, rtol=1e-12)
        tree.want(right, "activation", name, "kernels/formulas.py as kernels/reference/activations.py has it")
        tree.want(name in onnxfile.ACTIVATIONS, "activation", name, "fastbp/export/onnxfile.py")
    for name in {**codes.ACTIVATIONS, **codes.LEARNED}:
        tree.row("activation", name, "Activations")
        tree.want(name in types.ActivationName.__args__, "activation", name, "fastbp/types.py")
        tree.words("activation", name, "README.md", "docs/guide.md", "docs/api.md", "fastbp/network/mlp.py")
        tree.words("activation", name, "bench/unchanged.py")


def losses(tree):
    import fastbp
    from fastbp import types
    from fastbp.kernels import codes, loss_formulas, reference

    count = sum(code not in loss_formulas.LOSS for code in range(max(loss_formulas.LOSS)))
    tree.want(not count, "loss", f"{count} codes", "kernels/loss_formulas.py")
    for name, code in codes.LOSSES.items():
        kind = fastbp.losses.LOSSES.get(name)
        tree.want(code in loss_formulas.LOSS, "loss", name, "kernels/loss_formulas.py")
        tree.want(name in reference.LOSSES, "loss", name, "kernels/reference/losses.py")
        tree.want(name in types.LossName.__args__, "loss", name, "fastbp/types.py")
        tree.row("loss", name, "Losses")
        tree.words("loss", name, "README.md", "docs/guide.md", "docs/api.md", "fastbp/training/trainer.py",
                   "tests/support/draw.py")  # fmt: skip
        if kind is None or kind.__name__ not in fastbp.losses.__all__:
            tree.want(False, "loss", name, "fastbp/losses/__init__.py")
        else:
            tree.words("loss", name, "bench/parts/features.py", "bench/unchanged.py", word=kind.__name__)
            tree.words("loss", name, "tests/pages/public_api.txt", word=f"fastbp.losses.{kind.__name__}")


def optimizers(tree):
    import fastbp
    from fastbp import types
    from fastbp.kernels import codes, formulas, reference

    for name, kind in fastbp.optimizers.OPTIMIZERS.items():
        title = kind.__name__
        tree.want(title in fastbp.optimizers.__all__, "optimizer", title, "fastbp/optimizers.py")
        tree.words("optimizer", title, "tests/pages/public_api.txt", word=f"fastbp.optimizers.{title}")
        tree.want(
            title in fastbp.__all__ and hasattr(fastbp, title), "optimizer", title, "fastbp/__init__.py"
        )
        tree.want(name in types.OptimizerName.__args__, "optimizer", title, "fastbp/types.py")
        tree.row("optimizer", title, "Optimizers")
        tree.words("optimizer", title, "docs/guide.md", "docs/training.md", "docs/api.md")
        tree.words("optimizer", title, "fastbp/training/trainer.py")
        tree.words("optimizer", title, "README.md", word={"LBFGS": "L-BFGS"}.get(title))
        if title == "LBFGS":  # SciPy's: no rule of the program
            continue
        rule = kind().rule
        tree.want(rule in formulas.RULES and rule in codes.SLOTS, "optimizer", title, "kernels/formulas.py")
        tree.want(title in reference.OPTIMIZERS, "optimizer", title, "kernels/reference/optimizers.py")
        tree.words("optimizer", title, "fastbp/cli/command.py", word=name)
        tree.words(
            "optimizer", title, "tests/support/ways.py", "bench/parts/features.py", "bench/unchanged.py"
        )
    for name in re.findall(
        r"^    codes\.(\w+):", tree.text("kernels/formulas.py").split("\nRULES = {")[1], re.M
    ):
        tree.words("optimizer", name, "tests/kernels/test_kernels.py", word=f"codes.{name}")


def norms(tree):
    from fastbp import types
    from fastbp.export import model
    from fastbp.kernels import codes, reference

    constants = {code: name for name, code in vars(codes).items() if name.endswith("_NORM")}
    for name in set(types.Norm.__args__) - set(codes.NORMS):
        tree.want(False, "norm", name, "kernels/codes.py")
    for name, code in codes.NORMS.items():
        tree.row("norm", name, "Norm, dropout, skip, embedding")
        tree.want(name in types.Norm.__args__, "norm", name, "fastbp/types.py")
        tree.want(name in model.NORMS, "norm", name, "fastbp/export/model.py")
        tree.want(name in reference.NORMS, "norm", name, "kernels/reference/network.py")
        tree.words("norm", name, "kernels/cpu/layers.py", "kernels/cuda/layers.py", word=constants[code])
        tree.words("norm", name, "README.md", "docs/layers.md", "docs/api.md", "fastbp/network/mlp.py")
        tree.words("norm", name, "fastbp/cli/command.py")
        tree.words("norm", name, "bench/parts/layers.py", "bench/unchanged.py")


def schedules(tree):
    import fastbp
    from fastbp import types

    for name, kind in fastbp.schedules.SCHEDULES.items():
        title = kind.__name__
        tree.want(title in fastbp.schedules.__all__, "schedule", title, "fastbp/schedules/__init__.py")
        tree.words("schedule", title, "tests/pages/public_api.txt", word=f"fastbp.schedules.{title}")
        tree.want(name in types.ScheduleName.__args__, "schedule", title, "fastbp/types.py")
        tree.row("schedule", title, "Optimizers")
        tree.words("schedule", title, "docs/training.md", "docs/api.md")
        tree.words("schedule", title, "tests/training/test_schedules.py", word=f"sc.{title}")
    count = NUMBERS[len(fastbp.schedules.SCHEDULES)]
    tree.want(f"{count} schedules" in tree.text("README.md"), "schedule", f"{count} schedules", "README.md")


def options(tree):
    """Of ``fastbp train``: read, and tested."""
    from fastbp.cli import command

    train = command._parser()._subparsers._group_actions[0].choices["train"]
    work = "".join(
        tree.text(p) for p in sorted((tree.root / "fastbp/cli").glob("*.py")) if p.name != "command.py"
    )
    tests = [p for p in sorted((tree.root / "tests").rglob("test_*.py")) if p.name != "test_contributing.py"]
    tests = "".join(map(tree.text, tests))
    known = {o for action in train._actions for o in action.option_strings}
    page = tree.text("docs/files.md").split("options of `fastbp train` |")[1].split("\n\n")[0]
    for option in set(re.findall(r"`(--[\w-]+)`", page)) - known:
        tree.want(False, "option", option, "fastbp/cli/command.py")
    for action in train._actions:
        for option in (o for o in action.option_strings if o.startswith("--") and o != "--help"):
            tree.want(f"args.{action.dest}" in work, "option", option, "fastbp/cli/train.py")
            tree.want(re.search(rf"{option}\b", tests), "option", option, "tests/cli/test_cli.py")
            tree.words("option", option, "docs/files.md")


def lacks(root):
    tree = Tree(root)
    for look in (activations, losses, optimizers, norms, schedules, options):
        try:
            look(tree)
        except Exception as error:
            tree.lacks.append(f"{look.__name__.rstrip('s')}: {type(error).__name__}: {error}")
    return tree.lacks


if __name__ == "__main__":
    try:
        print(*lacks(sys.argv[1]), sep="\n")
    except Exception as error:  # it cannot even be imported
        print(f"{type(error).__name__}: {error}")
