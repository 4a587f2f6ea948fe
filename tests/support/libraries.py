"""The same columns as the frame of every library that is installed."""

from fastbp.data.frames import Frame


def frames_of(columns):
    """The same table by each library that is here: (name, frame)."""
    yield "Frame", Frame(list(columns), list(columns.values()))
    try:
        import pandas

        yield "pandas", pandas.DataFrame(columns)
        yield "nullable", pandas.DataFrame(columns).convert_dtypes()
    except ImportError:
        pass
    try:
        import polars

        yield "polars", polars.DataFrame(columns)
    except ImportError:
        pass
    try:
        import pyarrow

        yield "arrow", pyarrow.table(columns)
    except ImportError:
        pass
