"""Who may import whom, read off the sources: the floors and walls that keep the house simple."""

import ast
import re
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
# fastbp/ from bottom to top: a room or module imports, lazily too, only from floors below its own. What
# lies in fastbp/ itself, and data, datasets, losses, schedules, sklearn, is what users import by that path.
# Those under ``if TYPE_CHECKING`` obey too: below training a Trainer is an AnyTrainer of the engine's.
# Drawing and exporting are below what offers them, History and Trainer; only __init__ is above cli's
# reach, which asks it for the version. dev is a command, no import path.
FLOORS = (
    "errors math printing types writing",
    "initializers metrics prepare datasets",
    "network drawing",
    "data pictures",
    "losses optimizers schedules preparation files",
    "custom",
    "engine",
    "machine callbacks",
    "diagnosis explain lrfind export optuna",
    "training",
    "models sklearn",
    "cli dev",
    "__main__",
)
PUBLIC = set(
    "optimizers losses schedules initializers callbacks metrics data prepare preparation datasets "
    "sklearn math types lrfind diagnosis explain machine pictures optuna".split()
)
STANDARD = set(sys.stdlib_module_names)
EXTRAS = ("scipy", "torch", "onnx", "polars", "pyarrow", "sklearn", "optuna")  # each for one format, lazily


class Import(NamedTuple):
    name: str  # absolute and dotted; for ``from a import b`` both a and a.b are listed
    line: int
    lazy: bool  # inside a function
    typing: bool = False  # under ``if TYPE_CHECKING``: for annotations, never run


def imports(source, module, package=False):
    """All imports of a source file. module: its dotted name; package: whether it is an __init__."""
    parents = module.split(".") if package else module.split(".")[:-1]
    found = []

    def visit(node, lazy, typing):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, lazy, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level > len(parents):
                raise ImportError(f"{module}:{node.lineno}: relative import above the top")
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
            found.extend(Import(name, node.lineno, lazy, typing) for name in names)
        typing = typing or isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        inner = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            visit(child, inner, typing)

    visit(ast.parse(source), False, False)
    return found


def within(name, package):
    return name == package or name.startswith(package + ".")


def modules():
    """(dotted name, path) of every module; kernels/ goes by the name it is installed under."""
    for folder, package in (("fastbp", "fastbp"), ("kernels", "fastbp.kernels")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            yield ".".join([package, *(p for p in parts if p != "__init__")]), path


READ = {name: imports(path.read_text(), name, path.stem == "__init__") for name, path in modules()}
ALL = {name: [i for i in found if not i.typing] for name, found in READ.items()}  # what runs
KERNELS = {name: found for name, found in ALL.items() if within(name, "fastbp.kernels")}
REST = {name: found for name, found in ALL.items() if name not in KERNELS}
TYPED = {name: READ[name] for name in REST}  # with what annotations name


def broken(table, wrong):
    """One text, module:line imports name, for each import that is wrong(module, import)."""
    return [f"{m}:{i.line} imports {i.name}" for m, found in table.items() for i in found if wrong(m, i)]


# What stands under fastbp.sklearn: subclasses of scikit-learn's base classes, which must be there at import.
ESTIMATORS = {name for name in ALL if within(name, "fastbp.sklearn")}


def outsider(i, *allowed):
    top = i.name.partition(".")[0]
    return top not in STANDARD and top not in ("fastbp", *allowed)


def test_the_reader_of_imports():
    """The tests below are worth what this function sees."""
    source = """
import numpy, numba.core
from . import codes
from ..jit import jit
if TYPE_CHECKING:
    from ... import above
def f():
    import torch.nn
    class C:
        from .cpu import program as p
"""
    found = imports(source, "fastbp.kernels.cpu.x")
    assert {i.name for i in found if i.typing} == {"fastbp", "fastbp.above"}
    assert {(i.name, i.lazy) for i in found if not i.typing} == {
        ("numpy", False), ("numba.core", False),
        ("fastbp.kernels.cpu", False), ("fastbp.kernels.cpu.codes", False),
        ("fastbp.kernels.jit", False), ("fastbp.kernels.jit.jit", False),
        ("torch.nn", True),
        ("fastbp.kernels.cpu.cpu", True), ("fastbp.kernels.cpu.cpu.program", True),
    }  # fmt: skip
    assert imports("from . import b", "a", package=True)[1].name == "a.b"
    with pytest.raises(ImportError):
        imports("from .... import b", "fastbp.kernels.x")


def test_every_module_was_read():
    assert {"fastbp", "fastbp.training.trainer", "fastbp.engine.backend"} <= set(REST)
    assert {"fastbp.kernels.jit", "fastbp.kernels.reference", "fastbp.kernels.cpu.program"} <= set(KERNELS)


def module_of(i):
    """The module that an import is of: of fastbp.data.checks.features it is fastbp.data.checks."""
    name = i.name
    while name not in ALL:
        name = name.rpartition(".")[0]
    return name


def inner(found):
    """The modules of fastbp/ that these imports are of; ``from a import b`` lists both and means b."""
    names = {module_of(i) for i in found if within(i.name, "fastbp")}
    return {n for n in names if n in REST and not any(o != n and within(o, n) for o in names)}


def floor(module):
    room = module.split(".")[1]
    return next(k for k, rooms in enumerate(FLOORS) if room in rooms.split())


def test_every_room_has_one_floor_and_the_top_folder_is_what_users_import():
    rooms = [name.split(".")[1] for name in REST if name.count(".") == 1]
    assert sorted(rooms) == sorted(" ".join(FLOORS).split())
    files = {path.stem for path in (ROOT / "fastbp").glob("*.py")}
    assert files - {"__init__", "__main__", "errors", "printing", "writing", "dev"} == PUBLIC - {
        "data",
        "datasets",
        "losses",
        "schedules",
        "sklearn",
    }


def test_rooms_import_only_from_floors_below():
    def wrong(module, i):
        if module == "fastbp" or not within(i.name, "fastbp") or within(i.name, "fastbp.kernels"):
            return False
        target = module_of(i)
        if target == "fastbp":  # the version; or the first half of ``from .. import module``
            return i.name.count(".") == 1 and not within(module, "fastbp.cli")
        same = module.split(".")[1] == target.split(".")[1]
        return not same and floor(target) >= floor(module)

    assert broken(TYPED, wrong) == []


def test_nothing_imports_itself_round_a_circle():
    """Lazy imports and those for annotations count: a file is read before what it imports, or after."""
    graph = {m: inner(found) - {m} for m, found in TYPED.items()}
    graph = {m: {n for n in to if n != "fastbp"} for m, to in graph.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(error.args[1])}")


def test_kernels_know_nothing_above_them():
    """The standard library, NumPy, Numba with its LLVM, and each other; the GPU's, lazily, CUDA's own."""

    def wrong(module, i):
        climbs = within(i.name, "fastbp") and not within(i.name, "fastbp.kernels")
        cuda = ("cuda",) if within(module, "fastbp.kernels.cuda") and i.lazy else ()
        return climbs or outsider(i, "numpy", "numba", "llvmlite", *cuda)

    assert broken(KERNELS, wrong) == []


def test_kernels_import_each_other_by_relative_names_only():
    """Absolute ones would tie them to the place where they are installed."""
    absolute = [
        f"{path.name}:{node.lineno}"
        for name, path in modules()
        if name in KERNELS
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(within(a.name, "fastbp") for a in node.names))
        or (isinstance(node, ast.ImportFrom) and not node.level and within(node.module, "fastbp"))
    ]
    assert absolute == []


@pytest.mark.parametrize("one,other", [("cpu", "cuda"), ("cuda", "cpu")])
def test_devices_never_see_each_other(one, other):
    mine = {m: found for m, found in KERNELS.items() if within(m, f"fastbp.kernels.{one}")}
    assert broken(mine, lambda m, i: within(i.name, f"fastbp.kernels.{other}")) == []


def test_what_devices_share_knows_no_device():
    devices = ("fastbp.kernels.cpu", "fastbp.kernels.cuda")
    shared = {m: f for m, f in KERNELS.items() if not any(within(m, d) for d in devices)}
    assert broken(shared, lambda m, i: any(within(i.name, d) for d in devices)) == []


def test_only_backend_opens_a_program_and_only_when_it_is_needed():
    """And what stands for an array on a GPU, to copy it to the host."""
    devices = ("fastbp.kernels.cpu", "fastbp.kernels.cuda")
    openers = ("fastbp.engine.backend", "fastbp.data.gpuarrays")

    def wrong(module, i):
        return any(within(i.name, d) for d in devices) and not (module in openers and i.lazy)

    assert broken(REST, wrong) == []
    assert any(within(i.name, "fastbp.kernels.cpu") for i in REST["fastbp.engine.backend"])


def test_numba_is_behind_the_backend():
    """And beside it: which device, how many threads, and ``fastbp info``, which reports on it; never at
    import, which it would double."""
    compilers, near = (
        ("numba", "llvmlite"),
        ("engine.backend", "engine.devices", "engine.parallel", "cli.info"),
    )

    def wrong(module, i):
        return i.name.partition(".")[0] in compilers and not (
            module.removeprefix("fastbp.") in near and i.lazy
        )

    assert broken(REST, wrong) == []


def test_the_trainer_names_no_device():
    tree = ast.parse((ROOT / "fastbp" / "training" / "trainer.py").read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    names |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert "device" in names and "auto" in texts  # the walk sees names and strings
    assert not (names | texts) & {"cpu", "cuda", "program"}


def test_the_reference_is_for_tests_and_benchmarks_only():
    reference = "fastbp.kernels.reference"
    assert broken(ALL, lambda m, i: within(i.name, reference) and not within(m, reference)) == []


def test_the_reference_shares_nothing_with_what_it_is_the_oracle_of():
    reference = "fastbp.kernels.reference"
    mine = {m: found for m, found in KERNELS.items() if within(m, reference)}
    assert mine
    assert broken(mine, lambda m, i: not within(i.name, reference) and outsider(i, "numpy")) == []
    assert broken(mine, lambda m, i: within(i.name, "fastbp") and not within(i.name, reference)) == []


def test_what_is_imported_at_once_is_numpy_only():
    """tqdm, safetensors, matplotlib, numba wait until they are needed; so do readers and exports."""
    rest = {m: found for m, found in REST.items() if m not in ESTIMATORS}
    assert broken(rest, lambda m, i: not i.lazy and outsider(i, "numpy")) == []
    allowed = ("numpy", "numba", "numba_cuda", "llvmlite", "tqdm", "safetensors", "matplotlib")
    assert broken(rest, lambda m, i: outsider(i, *allowed, *EXTRAS)) == []


def test_only_the_estimators_see_scikit_learn_and_nobody_sees_them():
    """import fastbp must not need scikit-learn; tests/sklearn/test_estimators.py runs it."""
    mine = {m: REST[m] for m in ESTIMATORS}
    assert (
        broken(mine, lambda m, i: outsider(i, "numpy", "scipy", "sklearn", "joblib", "threadpoolctl")) == []
    )
    rest = {m: found for m, found in REST.items() if m not in ESTIMATORS}
    assert broken(rest, lambda m, i: any(within(i.name, e) for e in ESTIMATORS)) == []


PUBLIC_ALL_THE_SAME = {"_replace", "_asdict", "_fields"}  # of named tuples


def private_of_others(tree):
    """(line, text) of each x._name, x not self, cls or super(), where the class around it has no _name."""
    found = []

    def visit(node, own):
        if isinstance(node, ast.ClassDef):
            own = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        elif isinstance(node, ast.Attribute) and re.match("_(?!_)", node.attr):
            mine = ast.unparse(node.value) in ("self", "cls", "super()") or node.attr in own
            if not mine and node.attr not in PUBLIC_ALL_THE_SAME:
                found.append((node.lineno, ast.unparse(node)))
        for child in ast.iter_child_nodes(node):
            visit(child, own)

    visit(tree, set())
    return found


def test_what_is_private_stays_with_its_object():
    source = "class A:\n    def f(self, b):\n        return self._x + b._f() + b.c._y\n    def _f(self): pass"
    assert private_of_others(ast.parse(source)) == [(3, "b.c._y")]
    reached = [
        f"{name}:{line} {text}"
        for name, path in modules()
        if name in REST
        for line, text in private_of_others(ast.parse(path.read_text()))
    ]
    assert reached == []


def test_every_package_is_installed():
    """setuptools takes only the packages that pyproject.toml lists."""
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    with open(ROOT / "pyproject.toml", "rb") as file:
        config = tomllib.load(file)
    packages = {name for name, path in modules() if path.stem == "__init__"}
    assert set(config["tool"]["setuptools"]["packages"]) == packages
    named = {re.match(r"[\w-]+", d)[0] for d in config["project"]["dependencies"]}
    extras = {
        re.match(r"[\w-]+", d)[0] for e in config["project"]["optional-dependencies"].values() for d in e
    }
    used = {i.name.partition(".")[0] for found in ALL.values() for i in found} - STANDARD - {"fastbp"}
    # numba brings llvmlite, scikit-learn joblib and threadpoolctl; the others are extras
    assert named == used - {
        "llvmlite",
        "joblib",
        "threadpoolctl",
        "matplotlib",
        "bench",
        "numba_cuda",
        "cuda",
        *EXTRAS,
    }
    assert {"matplotlib", *EXTRAS} - extras == {"sklearn"} and "scikit-learn" in extras
    wheels = config["project"]["optional-dependencies"]
    assert all(wheels[e][0].startswith(f"numba-cuda[{e[:2]}{e[4:]}]") for e in ("cuda12", "cuda13"))


def functions(*folders):
    """(where, its node) of every function of the kernels in these folders of kernels/."""
    for folder in folders:
        for path in sorted((ROOT / "kernels" / folder).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.FunctionDef, ast.Lambda)):
                    yield f"{folder}/{path.name}:{node.lineno}", node


@pytest.mark.parametrize("folder", ["cpu", "cuda", "reference", "."])
def test_no_kernel_takes_more_than_eight_arguments(folder):
    """By position, and beside self or the emitter e; what belongs together travels as a record."""
    found = {}
    for where, node in functions(folder):
        names = [a.arg for a in [*node.args.posonlyargs, *node.args.args]]
        found[where] = len(names) - (names[:1] in (["e"], ["self"]))
    assert found and {where: count for where, count in found.items() if count > 8} == {}


PARTS_OF_A_STEP = ("cpu/program.py", "cpu/rows.py", "cpu/weights.py", "cpu/many.py")


def test_a_thread_runs_in_phases_of_a_screen():
    found = {node.name: node.end_lineno - node.lineno + 1
             for where, node in functions("cpu")
             if where.startswith(PARTS_OF_A_STEP) and isinstance(node, ast.FunctionDef)}  # fmt: skip
    assert "worker" in found and {name: lines for name, lines in found.items() if lines > 45} == {}
