"""Write docs/tables.md, every field of the kernels' tables, from kernels/tables.py: python docs/tables.py

tests/kernels/test_tables.py holds the page to them.
"""

import sys
from pathlib import Path

PAGE = Path(__file__).with_name("tables.md")
sys.path.insert(0, str(PAGE.parents[1]))

HEAD = """\
# The tables that the kernels read
Written by `python docs/tables.py` from [kernels/tables.py](../kernels/tables.py), where each field is
declared once; tests/kernels/test_tables.py holds the page to it. A network, its loss and its optimizer
become the *plan*, a call has a table of its own, the optimizer's numbers are *hyper*. Places count numbers
from the beginning of their arena: `params`, or `work`, where everything lies that only a step needs.

Who writes a field: `plan` is fastbp's Plan, `session` the Session of a device; `optimizer`, `options`,
`schedule` and `data` are what the Trainer was given; `cpu` and `cuda` are the kernels of a device. Who reads
it: the kernels of a device, or `python`. A field that only the CPU reads is refused on a GPU where it is
set; those that say how the CPU does its work are passed over.
"""


def page():
    """The text of tables.md."""
    from fastbp.kernels.tables import Table
    from fastbp.printing import markdown_table

    parts = [HEAD]
    for table in Table.all.values():
        rows = [["name", "at", "unit", "what it is", "written by", "read by"]]
        for f in table.fields:
            rows.append([f"`{f.name}`", str(f.place), f.unit, f.text, f.writer, f.readers])
        parts.append(f"## {table.title}\n{table.text}\n\n{markdown_table(rows, left=len(rows[0]))}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
