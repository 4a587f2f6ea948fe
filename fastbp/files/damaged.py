"""What a damaged file makes the parsers raise, as one line that names the file."""

from __future__ import annotations

import csv
import gzip
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def speaking(path: object, kind: str) -> Iterator[None]:
    """Turn what a damaged file makes the parsers raise into one line that names the file."""
    try:
        yield
    except MemoryError as error:
        raise ValueError(f"{path}: does not fit in memory, or its header is damaged") from error
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: damaged or truncated {kind} file ({error})") from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise ValueError(f"{path}: not readable as {kind}: {error}") from error
