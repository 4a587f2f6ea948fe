"""Every field of the kernels' tables is said once, in kernels/tables.py, and what is said there is so."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fastbp.kernels import tables
from fastbp.kernels.tables import Table

ROOT = Path(__file__).resolve().parents[2]
FIELDS = [pytest.param(f, id=f.name) for table in Table.all.values() for f in table.fields]
WRITERS = {tables.PLAN, tables.SESSION, tables.OPTIONS, tables.DATA, tables.CPU, tables.GPU,
           tables.BOTH}  # fmt: skip
READERS = {tables.CPU, tables.GPU, tables.BOTH, tables.PYTHON, tables.CPU_ALONE}
DEVICES = (tables.CPU, tables.GPU)
# what Python's half of a device makes of the plan is no reading of it
SOURCES = {
    device: "\n".join(p.read_text() for p in sorted((ROOT / "kernels" / device).glob("*.py")))
    for device in DEVICES
}


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_has_a_unit_a_sentence_a_writer_and_readers(field):
    units = [getattr(tables, name) for name in "COUNT CODE FLAG NUMBER FLOATS WORK PARAMS SCRATCH".split()]
    assert field.unit in [*units, tables.ADDRESS, tables.BYTES, tables.TICKS, tables.SHARE]
    assert re.fullmatch(r"[A-Z1].*[^.]\.", field.text) and len(field.text) < 100
    assert field.writer in WRITERS and field.readers in READERS


def reads(device, field, prefix):
    """Whether a device's sources name a field: its constant, or its name in a record."""
    name = field.name.removeprefix(f"{prefix}_").lower()
    return bool(re.search(rf"\b{field.name}\b|\.{name}\b", SOURCES[device]))


@pytest.mark.parametrize("prefix", Table.all)
def test_a_field_is_read_where_the_table_says(prefix):
    for field in Table.all[prefix].fields:
        for device in DEVICES:
            if field.read_by(device):
                assert reads(device, field, prefix), f"{field.name}: {device} does not read it"
        if not field.read_by(tables.GPU):
            assert not re.search(rf"\b{field.name}\b", SOURCES[tables.GPU]) or field.writer == tables.GPU, (
                f"{field.name}: cuda reads it"
            )


def test_no_field_is_there_twice():
    names = [f.name for table in Table.all.values() for f in table.fields]
    assert len(names) == len(set(names))
    for table in Table.all.values():
        ends = [f.place + f.width for f in table.fields]
        assert [f.place for f in table.fields] == [table.first, *ends[:-1]] and ends[-1] == table.size


def test_a_field_without_a_name_is_an_error():
    table = Table("TRY", "try", "")
    del Table.all["TRY"]
    first = table(tables.COUNT, "One.", tables.PLAN, tables.BOTH)
    table(tables.COUNT, "Two.", tables.PLAN, tables.BOTH)
    with pytest.raises(TypeError, match="try: constants"):
        table.name_fields({"TRY_ONE": first})


def test_what_the_gpu_neither_reads_nor_may_pass_over_is_refused():
    table = Table("TRY", "try", "")
    del Table.all["TRY"]
    readers = {"TRY_A": tables.CPU, "TRY_B": tables.CPU_ALONE, "TRY_C": tables.BOTH}
    table.name_fields({n: table(tables.COUNT, "One.", tables.PLAN, r) for n, r in readers.items()})
    assert table.refused(tables.GPU, np.array([1, 1, 1]).__getitem__) == ["a"]
    assert table.refused(tables.GPU, np.array([0, 1, 1]).__getitem__) == []
    assert table.refused(tables.CPU, np.array([1, 1, 1]).__getitem__) == []


def test_the_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("docs_tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
    assert page == module.page(), "docs/tables.md is older than kernels/tables.py: python docs/tables.py"


def test_tables_take_the_standard_library_alone():
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tables", {str(ROOT / "kernels" / "tables.py")!r})
module = sys.modules["tables"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert "numpy" not in sys.modules and module.P_LAYERS == 0
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
