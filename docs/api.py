"""Write docs/api.md, the API reference, from the docstrings: python docs/api.py

With --signatures write tests/pages/public_api.txt instead: names, parameters, defaults and types.

tests/pages/test_docs.py holds the page to the docstrings, and runs their examples after the lines of BEFORE.
"""

import importlib
import inspect
import sys
import textwrap
from pathlib import Path

PAGE = Path(__file__).with_name("api.md")
SIGNATURES = PAGE.parents[1] / "tests" / "pages" / "public_api.txt"
sys.path.insert(0, str(PAGE.parents[1]))
MODULES = (  # what is public is in the __all__ of each; of fastbp's own what no other module has
    "fastbp optimizers losses schedules initializers callbacks metrics data prepare preparation datasets "
    "sklearn optuna math lrfind diagnosis explain machine pictures"
).split()
HEAD = """\
# API reference
Written by `python docs/api.py` from the docstrings; tests/pages/test_docs.py holds it to them and runs their
examples, each after these lines:
"""
BEFORE = """\
import numpy as np
import fastbp as fb
from fastbp import callbacks, datasets, machine, metrics, pictures, preparation, prepare

X, y = np.eye(4, dtype="float32"), np.arange(4)
trainer = fb.Trainer(fb.MLP([4, 16, 4], seed=0), batch_size=2, seed=0)


def loss_of(loss, z, t):  # of outputs z (N, C) with targets t
    n = len(z[0])
    net = fb.MLP([n, n], initializer=[(np.eye(n), np.zeros(n))], dtype="float64")
    return round(fb.Trainer(net, loss).evaluate(z, t)["loss"], 4)


def step(optimizer, steps=1):  # the weight 1.0 after steps whose gradient is 2.0
    net = fb.MLP([1, 1], initializer=[([[1.0]], [0.0])], dtype="float64")
    trainer = fb.Trainer(net, "mse", optimizer)
    trainer.gradient_hook = lambda gradients: gradients[0][0].fill(2.0)
    for _ in range(steps):
        trainer.train_on_batch([[1.0]], [0.0])
    return round(float(net.weights[0][0, 0]), 4)
"""


def public(name):
    """(module, [(name, object), ...]) of what a module of MODULES exports."""
    module = importlib.import_module("fastbp" if name == "fastbp" else f"fastbp.{name}")
    elsewhere = {f"fastbp.{n}" for n in MODULES[1:]} if name == "fastbp" else ()
    found = [(n, getattr(module, n)) for n in module.__all__]
    found = [(n, o) for n, o in found if not inspect.ismodule(o) and o.__module__ not in elsewhere]
    return module, sorted(found, key=lambda pair: pair[0] not in ("MLP", "Trainer"))


def signature(name, thing, by=0):
    """Without annotations, which the docstring says in words."""
    made = inspect.signature(thing)
    plain = [p.replace(annotation=p.empty) for p in made.parameters.values() if p.name not in ("self", "cls")]
    text = f"{name}{made.replace(parameters=plain, return_annotation=made.empty)}"
    return textwrap.fill(text, 100, initial_indent=" " * by, subsequent_indent=" " * (by + len(name) + 1))


def declares(base, name):
    """Whether a class has an attribute, or says that its subclasses have it."""
    return name in vars(base) or name in vars(base).get("__annotations__", ())


def methods(kind):
    """(name, member) of a class's own methods and properties that are not a base class's."""
    for name, member in vars(kind).items():
        if not name.startswith("_") and not any(declares(base, name) for base in kind.__mro__[1:]):
            member = member if isinstance(member, property) else getattr(kind, name)
            ours = inspect.isroutine(member) and member.__module__.startswith("fastbp")  # not scikit-learn's
            if isinstance(member, property) or ours:
                yield name, member


def doc(thing, by=4):
    return textwrap.indent(inspect.getdoc(thing) or "", " " * by)


def entry(name, thing):
    lines = [signature(name, thing), "", doc(thing)]
    for part, member in methods(thing) if inspect.isclass(thing) else ():
        is_property = isinstance(member, property)
        lines += [
            "",
            f"    {part}  (property)" if is_property else signature(part, member, 4),
            doc(member, 8),
        ]
    return "\n".join(lines)


def page():
    """The text of api.md."""
    top, index, parts = importlib.import_module("fastbp"), [], []
    for name in MODULES:
        module, found = public(name)
        title = "fastbp" if name == "fastbp" else f"fastbp.{name}"
        short = [(n, o) for n, o in found if inspect.isroutine(o) and "\n" not in inspect.getdoc(o)]
        lines = [inspect.getdoc(module), ""] + [f"{signature(n, o)}: {inspect.getdoc(o)}" for n, o in short]
        parts.append(f"## {title}\n```text\n{chr(10).join(lines).strip()}\n```")
        links = []
        for n, thing in found:
            if (n, thing) not in short:
                full = f"fb.{n}" if getattr(top, n, None) is thing else f"{title}.{n}"
                parts.append(f"### {full}\n```text\n{entry(n, thing)}\n```")
                links.append(f"[{n}](#{full.replace('.', '').lower()})")
        index.append(f"- [{title}](#{title.replace('.', '')}): {', '.join(links or ['functions'])}")
    return "\n\n".join([f"{HEAD}```python\n{BEFORE}```", "\n".join(index), *parts]) + "\n"


class _Plain(str):
    """Text that a signature shows without quotes."""

    __repr__ = str.__str__


def typed(thing):
    """(parameters) -> type, of a function, or of what makes a class."""
    made = inspect.signature(thing)
    empty, plain = inspect.Signature.empty, []

    def shown(annotation):
        text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        return empty if annotation is empty else _Plain(text)

    for p in made.parameters.values():
        if p.name not in ("self", "cls"):
            plain.append(p.replace(annotation=shown(p.annotation)))
    result = empty if inspect.isclass(thing) else shown(made.return_annotation)
    return str(made.replace(parameters=plain, return_annotation=result)).replace("'", '"')


def signatures():
    """The text of public_api.txt: a line for each public name and each public part of a class."""
    lines = ["What fastbp promises: written by `python docs/api.py --signatures`.", ""]
    for name in MODULES:
        module = importlib.import_module("fastbp" if name == "fastbp" else f"fastbp.{name}")
        for n in sorted(module.__all__):
            thing, full = getattr(module, n), f"{module.__name__}.{n}"
            if inspect.ismodule(thing) or not callable(thing):
                lines.append(full)
                continue
            lines.append(full + typed(thing))
            for part in dir(thing) if inspect.isclass(thing) else ():
                member = inspect.getattr_static(thing, part)
                if part.startswith("_"):
                    continue
                if isinstance(member, property):
                    result = member.fget and inspect.signature(member.fget).return_annotation
                    lines.append(f"{full}.{part}: {result}")
                elif inspect.isroutine(getattr(thing, part, None)):
                    member = getattr(thing, part)
                    if (member.__module__ or "").startswith("fastbp"):
                        lines.append(f"{full}.{part}{typed(member)}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--signatures"]:
        SIGNATURES.write_text(signatures(), encoding="utf-8")
    else:
        PAGE.write_text(page(), encoding="utf-8")
