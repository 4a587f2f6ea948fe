"""Reading tables: what each format gives, and what a bad file says."""

import gzip
import pickle
import time
import warnings
import zipfile

import numpy as np
import pytest

from fastbp import files
from fastbp.files import Dialect, Wanted, csvfile, features
from fastbp.preparation import Preparation


@pytest.fixture
def rng():
    return np.random.default_rng()


def read(path, target=None, dialect=None, **rest):
    return files.read(path, Wanted(target, **rest), dialect)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def refuses(path, *words, target=None, error=ValueError):
    """Reading raises one line that names the file and says all of `words`."""
    with pytest.raises(error) as caught:
        read(path, target)
    message = str(caught.value)
    assert path.name in message and "\n" not in message
    for word in words:
        assert word in message, message


# --- csv ---


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("packed", [False, True])
def test_csv_gives_back_what_was_written(tmp_path, rng, delimiter, packed):
    values = rng.standard_normal((57, 4))
    lines = ["a,b,c,price"] + [",".join(map(repr, row)) for row in values.tolist()]
    text = "\r\n".join(lines).replace(",", delimiter) + "\r\n"
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    table = read(path)
    assert np.array_equal(table.X, values[:, :3]) and np.array_equal(table.y, values[:, 3])
    assert table.feature_names == ["a", "b", "c"] and table.target_name == "price"
    assert table.X.flags.c_contiguous and table.X.flags.writeable and table.classes is None


@pytest.mark.parametrize(
    "text, names",
    [
        ("1,2,3\n4,5,6\n", None),
        ("5.1,3.5,setosa\n4.9,3,virginica\n", None),
        ("x,y,z\n4,5,6\n", ["x", "y"]),
        ("1999,2000,kind\n4,5,6\n", ["1999", "2000"]),
        ("0,1,2,3\n7,7,7,7\n", ["0", "1", "2"]),
        ('"a, b","c",d\n4,5,6\n', ["a, b", "c"]),
        ("\ufeffx,y,z\n4,5,6\n", ["x", "y"]),
    ],
    ids=["numbers", "text target", "names", "years", "pandas counts", "quoted", "byte order mark"],
)
def test_csv_header_is_recognised(tmp_path, text, names):
    table = read(write(tmp_path / "t.csv", text))
    assert table.feature_names == names
    assert len(table.X) == (2 if names is None else 1)


def test_csv_target_by_name_and_index(tmp_path):
    path = write(tmp_path / "t.csv", "a,b,7\n1,2,3\n4,5,6\n")
    for target, y, names in [
        ("a", [1, 4], ["b", "7"]),
        ("1", [2, 5], ["a", "7"]),
        (-1, [3, 6], ["a", "b"]),
        ("7", [3, 6], ["a", "b"]),  # a name first, then an index
    ]:
        table = read(path, target)
        assert table.y.tolist() == y and table.feature_names == names
    refuses(path, "got 'c'", "Known: a, b, 7", target="c")
    refuses(path, "got column 3", "-3 to 2", target="3")
    bare = write(tmp_path / "bare.csv", "1,2,3\n4,5,6\n")
    refuses(bare, "no header line", "0 to 2", target="price")
    twice = write(tmp_path / "twice.csv", "a,a,b\n1,2,3\n")
    refuses(twice, "2 columns named 'a'", target="a")


def test_csv_target_types(tmp_path):
    def target(*cells):
        return read(write(tmp_path / "t.csv", "x,y\n" + "".join(f"1,{c}\n" for c in cells)))

    assert target("3", "-1", "+2").y.tolist() == [3, -1, 2]
    assert target("3", "1").y.dtype == np.int64
    assert target("3", "1.0").y.dtype == np.float64
    labels = target("dog", " cat", "dog ", "ant")
    assert labels.y.tolist() == [2, 1, 2, 0] and labels.classes == ["ant", "cat", "dog"]
    assert labels.y.dtype == np.int64
    assert target("1", "2", "3a").classes == ["1", "2", "3a"]
    refuses(tmp_path / "t.csv", "no such column", target="no such column")
    with pytest.raises(ValueError, match="line 3: '1,5' among numbers"):
        target("1.5", '"1,5"')


def test_csv_calls_columns_without_a_name_as_pandas_does(tmp_path):
    """So a Preparation leaves row numbers out."""
    table = read(write(tmp_path / "t.csv", ",a,b\n0,5,1\n1,6,0\n2,7,1\n"))
    assert table.feature_names == ["Unnamed: 0", "a"]
    with pytest.warns(UserWarning, match="'Unnamed: 0' .numbers the rows"):
        assert Preparation.fit(table.X, names=table.feature_names).needed == ["a"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("a,colour,y\n1,2,3\n1,red,3\n", ["'colour'", "line 3", "'red' among numbers"]),
        ("1,2,3\n1,1_000,3\n", ["column 1", "line 2", "'1_000' among numbers"]),
        (
            "a,b,y\n1.5,2,3\nx,2,3\n2,2,4\n",
            ["line 3", "'x' among numbers", "--na", "--text"],
        ),
        ("a,y\n$1,3\nfree,2\n$3,4\n", ["'a'", "line 3", "'free' among numbers with $", "written alike"]),
        ("a,y\n1.5,3\n2.5,2\n$3,4\n", ["'a'", "line 4", "'$3' among numbers;"]),
        ("a,y\n2020-05-01,3\n2020-05-02,2\nMay,4\n", ["'a'", "line 4", "'May' among dates, the year first"]),
        ("a,y\n01/02/2020,3\n03/04/2020,2\n", ["'a'", "'01/02/2020' may begin with the day", "--dates"]),
        (
            "a,b,y\n1,2,3\n\n1,5,\n",
            ["'y' (the target)", "line 4", "missing value ('')", "1 of 2 rows", "--drop-"],
        ),
        ("a,b,y\n1,2,x\n1,2,NaN\n", ["'y' (the target)", "line 3", "missing value ('NaN')"]),
        ("a,b,y\n1,2,?\n", ["'y' (the target)", "line 2", "missing value"]),
        ("a,b,y\n1,inf,3\n", ["'b'", "line 2", "'inf'; takes finite numbers"]),
        ("a,b,y\n1,2,1e999\n", ["'y'", "line 2", "finite"]),
        ("a,b,y\n1,2,3\n1,2\n", ["line 3 has 2 columns", "first line has 3"]),
        ('a,b,y\n1,"2,3\n', ["not readable as csv"]),
        ("a,b,y\n", ["no line of data"]),
        ("", ["is empty"]),
        ("1\n2\n", ["one column only"]),
    ],
)
def test_bad_csv_says_where(tmp_path, text, words):
    refuses(write(tmp_path / "bad.csv", text), *words)


def test_csv_line_numbers_count_lines_within_quotes(tmp_path):
    refuses(write(tmp_path / "t.csv", 'a,b,y\n"1\n",2,3\nx,2,3\n'), "line 4", "'x'")


def test_a_column_that_the_model_knows_as_text_stays_text(tmp_path):
    path = write(tmp_path / "t.csv", "k,x\n3,1\n4+,2\n")
    refuses(path, "line 3: '4+' among numbers", target="x")
    assert features(path, Wanted(only=["x", "k"], text=["k"])).X.columns[1].tolist() == ["3", "4+"]


def test_csv_in_another_encoding(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("größe,y\n1,2\n".encode("latin-1"))
    refuses(path, "line 1 is not UTF-8 text (byte f6)", "--encoding")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "utf-16-le"])
def test_csv_in_any_encoding(tmp_path, encoding):
    """The marks of the first are seen; of the others --encoding says it."""
    path = tmp_path / "t.csv"
    path.write_bytes("größe,y\n1,Köln\n2,Oslo\n".encode(encoding))
    named = encoding in ("cp1252", "utf-16-le")
    table = read(path, dialect=Dialect(encoding=encoding if named else None))
    assert table.feature_names == ["größe"] and table.classes == ["Köln", "Oslo"]
    if named:
        refuses(path, "--encoding")


@pytest.mark.parametrize("encoding", ["utf-9", "zlib", ""])
def test_encodings_that_are_none(tmp_path, encoding):
    path = write(tmp_path / "t.csv", "a,y\n1,2\n")
    with pytest.raises(ValueError, match=f"--encoding: got '{encoding}'; takes a text encoding's name"):
        read(path, dialect=Dialect(encoding=encoding))


@pytest.mark.parametrize(
    "delimiter, given", [("|", None), (" ", "space"), ("\t", "tab"), ("~", "~"), (" ", " ")]
)
def test_csv_cut_by_anything(tmp_path, delimiter, given):
    path = write(tmp_path / "t.csv", "a,b,y\n1,2,3\n4,5,6\n".replace(",", delimiter))
    table = read(path, dialect=Dialect(delimiter=given))
    assert table.X.tolist() == [[1, 2], [4, 5]] and table.y.tolist() == [3, 6]
    if delimiter == " ":
        write(path, "  a   b y \n 1  2   3\n4 5  6   \n")
        assert read(path, dialect=Dialect(delimiter=given)).X.tolist() == [[1, 2], [4, 5]]
    for bad in ("ab", "", '"'):
        with pytest.raises(ValueError, match="--delimiter: got"):
            read(path, dialect=Dialect(delimiter=bad))


def test_csv_with_comments(tmp_path):
    path = write(tmp_path / "t.csv", "# made by hand\n#\na,b,y\n1,2,3\n# so far\n4,5,x\n4,5,7.5\n")
    refuses(path, "one column only", "--comment '#'")
    with pytest.raises(ValueError, match="line 6: 'x' among numbers"):
        read(path, dialect=Dialect(comment="#"))
    write(path, path.read_text().replace("x", "6"))
    assert read(path, dialect=Dialect(comment="#")).y.tolist() == [3, 6, 7.5]
    write(path, "a,b,y\n#1,2\n1,2,3\n")
    refuses(path, "line 2 has 2 columns", "--comment '#'")


@pytest.mark.parametrize(
    "text",
    [
        "a,b,y,\n1,2,3,\n4,5,6,\n",
        "a,b,y\n1,2,3,\n4,5,6,\n",
        "a,b,y,\n1,2,3\n4,5,6\n",
        "a,b,y,,\n1,2,3\n4,5,6,, ,\n",
        "a,b,y\n1,2,3\n4,5,6,",
        "1,2,3\n4,5,6,\n",
    ],
)
@pytest.mark.parametrize("large", [0, 1 << 30])
def test_empty_cells_at_the_ends_of_lines_are_none(tmp_path, monkeypatch, text, large):
    monkeypatch.setattr(csvfile, "LARGE", large)
    table = read(write(tmp_path / "t.csv", text))
    assert table.X.tolist() == [[1, 2], [4, 5]] and table.y.tolist() == [3, 6]
    write(tmp_path / "t.csv", text + "\n7,8,9,10\n")
    refuses(tmp_path / "t.csv")


def test_csv_columns_without_a_name(tmp_path):
    path = write(tmp_path / "t.csv", "a,,y,\n1,2,3,x\n4,5,6,\n")
    assert read(path, "y").feature_names == ["a", "Unnamed: 1", "Unnamed: 3"]
    assert read(path, "y", drop=["Unnamed: 3"]).X.tolist() == [[1, 2], [4, 5]]
    refuses(path, "'Unnamed: 3' (the target), line 3: missing")


def test_csv_of_text_without_a_header(tmp_path):
    """Names that come again below, each in its column, are data."""
    text = "x,s,e\nb,s,e\nx,y,p\nb,y,e\n"
    table = read(write(tmp_path / "t.csv", text))
    assert table.feature_names is None and len(table.y) == 4 and table.classes == ["e", "p"]
    path = write(tmp_path / "t.csv", "p,x,e\nb,s,e\nx,y,p\n")
    assert read(path).feature_names == ["p", "x"]
    table = read(path, dialect=Dialect(header=False))
    assert table.feature_names is None and len(table.y) == 3


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_columns_of_one_name_are_refused_by_it(tmp_path, monkeypatch, large):
    """Wherever a name is looked up; where it is not, others may be called alike."""
    monkeypatch.setattr(csvfile, "LARGE", large)
    path = write(tmp_path / "t.csv", "a,b,a ,y\n1,2,3,0\n4,5,6,1\n")
    refuses(path, "columns 0, 2 are all named 'a'", "--no-header")
    for wanted in (dict(drop=["a"]), dict(target="a"), dict(ids=["a"]), dict(only=["b", "a"])):
        with pytest.raises(ValueError, match="2 columns named 'a'"):
            read(path, **{"target": "y", **wanted})
    assert features(path, Wanted(only=["b"])).X.tolist() == [[2], [5]]
    with pytest.raises(ValueError, match="2 columns named 'a'"):
        features(path, Wanted(only=["b", "a"]))


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_rows_without_a_target_are_left_out(tmp_path, monkeypatch, large):
    monkeypatch.setattr(csvfile, "LARGE", large)
    path = write(tmp_path / "t.csv", "id,x,y\na,1,7\nb,2,\nc,NA,9\nd,4,?\n")
    table = read(path, drop_missing=True, ids=["id"])
    assert np.array_equal(table.X, [[1], [np.nan]], equal_nan=True) and table.y.tolist() == [7, 9]
    assert table.y.dtype == np.int64 and table.ids.columns[0].tolist() == ["a", "c"]
    assert "2 rows without a target left out" in table.source and table.place(1) == "line 4"
    refuses(path, "line 3: missing value ('')", "in 2 of 4 rows", "--drop-missing")
    refuses(write(tmp_path / "t.csv", "x,y\n1,\n2,NA\n"), "line 2: missing")
    with pytest.raises(ValueError, match="is missing in every row"):
        read(tmp_path / "t.csv", drop_missing=True)


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_what_means_missing(tmp_path, monkeypatch, large):
    monkeypatch.setattr(csvfile, "LARGE", large)
    path = write(tmp_path / "t.csv", "alley,x,y\nNA,1,None\nPave,-,Some\n,3,None\n")
    refuses(write(tmp_path / "n.csv", "x,y\n1,None\n2,a\n"), "line 2: missing value ('None')", "--na ''")
    table = read(path, dialect=Dialect(absent=("-",)))
    assert table.classes == ["None", "Some"] and table.X.columns[0].tolist() == ["NA", "Pave", ""]
    assert np.array_equal(table.X.columns[1], [1, np.nan, 3], equal_nan=True)


def test_codes_and_labels_that_look_like_numbers(tmp_path):
    path = write(tmp_path / "t.csv", "zip,x,y\n01234,1,1\n1234,2,2\n01234,3,1\n")
    table = read(path, text=["zip", "y"])
    assert table.X.columns[0].tolist() == ["01234", "1234", "01234"] and table.classes == ["1", "2"]


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_decimal_commas(tmp_path, monkeypatch, large):
    """One column that shows them says it of all: 1.234 is a thousand there, and 1,234 is not."""
    monkeypatch.setattr(csvfile, "LARGE", large)
    monkeypatch.setattr(csvfile, "_CHUNK", 3)
    rows = ["1,5;1.234;1,234;x;7;2.500", "2;950;2,500;y;8;1.000", "-0,25;1.000.000;;y;9;10"]
    rows.append("3;1;9,999;x;1;3")
    path = write(tmp_path / "t.csv", "a;b;c;d;e;y\n" + "".join(f"{row}\n" for row in rows))
    table = read(path)
    assert table.decimal == "," and "decimal commas" in table.source
    texts = [c.tolist() for c in table.X.columns]
    assert texts[0] == ["1.5", "2", "-0.25", "3"] and texts[1] == ["1234", "950", "1000000", "1"]
    assert texts[2] == ["1.234", "2.5", "", "9.999"] and texts[3] == list("xyyx") and texts[4] == [7, 8, 9, 1]
    assert [table.classes[i] for i in table.y] == ["2500", "1000", "10", "3"]
    plain = read(path, dialect=Dialect(decimal="."))
    assert plain.X.columns[1].tolist() == ["1.234", "950", "1.000.000", "1"]
    write(path, "b;y\n1.234;1\n2.345;2\n")
    assert read(path).X.tolist() == [[1.234], [2.345]]
    assert read(path, dialect=Dialect(decimal=",")).X.columns[0].tolist() == ["1234", "2345"]
    write(path, "a;b;c;y\n1,5;1.234;0.5;1\n2,5;2.345;0.25;2\n")  # both marks in one file: as it stands
    assert read(path).decimal is None and read(path).X.columns[1].tolist() == [1.234, 2.345]


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_columns_that_turn_out_to_be_text(tmp_path, monkeypatch, large):
    """Plain numbers for the first 20,000 rows."""
    monkeypatch.setattr(csvfile, "LARGE", large)
    monkeypatch.setattr(csvfile, "_CHUNK", 2)
    path = write(
        tmp_path / "t.csv",
        "a,zip,d,y\n1,1,1,1\n2,2,2,2\n3,3,3,3\n$4,04,4,4\n",
    )
    table = read(path, drop=["a"])
    assert [c.tolist() for c in table.X.columns] == [["1", "2", "3", "04"], [1, 2, 3, 4]]
    with pytest.raises(ValueError, match="'d'.*line 6: 'five' among numbers"):
        write(path, path.read_text() + "$5,5,five,5\n")
        read(path, drop=["a", "zip"])


def test_dates_in_the_order_that_is_said(tmp_path):
    path = write(tmp_path / "t.csv", "d,y\n01/02/2020,1\n03/04/2020 10:30,2\n,3\n")
    column = read(path, dialect=Dialect(dates="mdy")).X.columns[0].tolist()
    assert column == ["2020-01-02T00:00:00", "2020-03-04T10:30:00", ""]
    assert read(path, dialect=Dialect(dates="dmy")).X.columns[0][0] == "2020-02-01T00:00:00"
    assert read(path, text=["d"]).X.columns[0].tolist()[0] == "01/02/2020"


def test_csv_larger_than_a_chunk_and_fast(tmp_path, rng):
    block = rng.standard_normal((1000, 21)).round(6)
    path = tmp_path / "big.csv"
    path.write_text("".join(",".join(map(repr, row)) + "\n" for row in block.tolist()) * 100)
    start = time.perf_counter()
    table = read(path)
    assert time.perf_counter() - start < 10  # 1.3 s where this was written
    assert np.array_equal(np.column_stack([table.X, table.y]), np.tile(block, (100, 1)))


def test_csv_values_that_are_missing(tmp_path):
    path = write(tmp_path / "t.csv", "size,town,y\n1, ,1\n NA,Oslo,2\n,n/a,3\nNaN,?,4\n-2,Rome,5\n")
    table = read(path)
    size, town = table.X.columns
    assert np.array_equal(size, [1, np.nan, np.nan, np.nan, -2], equal_nan=True)
    assert town.tolist() == ["", "Oslo", "", "", "Rome"] and "6 values missing" in table.source
    numbers = read(path, drop=("town",)).X
    assert np.array_equal(numbers[:, 0], size, equal_nan=True) and numbers.dtype == np.float64


@pytest.fixture(params=["by hand", "polars"])
def reader(request, monkeypatch):
    """Every file by one reader; by polars it must not fall back."""
    if request.param == "polars":
        pytest.importorskip("polars")
        monkeypatch.setattr(csvfile, "LARGE", 0)
        monkeypatch.setattr(csvfile, "_by_hand", None)
    else:
        monkeypatch.setattr(csvfile, "_by_polars", None)


@pytest.mark.parametrize("packed", [False, True])
def test_csv_by_either_reader(reader, tmp_path, rng, packed):
    values = rng.standard_normal((300, 2)) * 10.0 ** rng.integers(-30, 30, (300, 2))
    town = rng.choice(["Oslo", " Ålesund ", 'the "old" town', "a,b", "NA", "3"], 300)
    numbers = [
        repr(v) if rng.random() < 0.8 else rng.choice(["", "NA", " nan ", "?"]) for v in values[:, 0].tolist()
    ]
    numbers[0], town[0] = repr(values[0, 0].item()), "Oslo"
    lines = ["a,town,b,y"]
    for a, t, b in zip(numbers, town, values[:, 1].tolist(), strict=True):
        quoted = '"' + t.replace('"', '""') + '"'
        lines.append(f"{a},{quoted},{b:.3e},{rng.integers(0, 3)}")
    text = "\ufeff" + "\r\n".join(lines) + "\r\n"
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    table = read(path)
    there = np.array([n.strip().lower() not in ("", "na", "nan", "?") for n in numbers])
    a, t, b = table.X.columns
    assert np.array_equal(a[there], values[there, 0]) and np.isnan(a[~there]).all()
    assert t.tolist() == ["" if v == "NA" else v.strip() for v in town]
    assert b.tolist() == [float(f"{v:.3e}") for v in values[:, 1]]
    assert table.y.dtype == np.int64 and table.feature_names == ["a", "town", "b"]


def test_both_readers_give_the_same_of_any_file(tmp_path, rng, monkeypatch):
    """Files of odd cells, quotes and lines: the same table, or the same error."""
    pytest.importorskip("polars")
    cells = ["1", "2.5", "-3e5", " 4", "", "NA", "x", "Oslo", '"a""b"', '"c,d"', "1_0", "inf", "1,5", '"',
             "#1", "'", " ", '"e\nf"', "\r", "+7", ".5", "٣", "nan", "x\ty", '""', ";"]  # fmt: skip
    weights = np.r_[np.full(3, 12.0), np.full(len(cells) - 3, 0.25)]
    path, by_polars = tmp_path / "t.csv", 0

    def result(large):
        monkeypatch.setattr(csvfile, "LARGE", large)
        try:
            table = read(path)
        except ValueError as error:
            return str(error)
        X = table.X if isinstance(table.X, np.ndarray) else [c.tolist() for c in table.X.columns]
        return repr((X, table.y.tolist(), table.feature_names, table.source, table.classes))

    whole = csvfile._by_polars
    for _ in range(300):
        width, rows = rng.integers(2, 5), rng.integers(1, 6)
        table = rng.choice(cells, (rows, width), p=weights / weights.sum())
        lines = [",".join(row) for row in table.tolist()]
        if rng.random() < 0.7:
            lines.insert(0, ",".join("abcd"[:width]))
        if rng.random() < 0.1:
            lines.insert(rng.integers(len(lines) + 1), rng.choice(["", " ", "1", "1,2,3,4,5"]))
        path.write_text(
            rng.choice(["\n", "\r\n"]).join(lines) + rng.choice(["", "\n"]), encoding="utf-8", newline=""
        )
        fast = []
        monkeypatch.setattr(csvfile, "_by_polars", lambda *a, fast=fast: fast.append(whole(*a)) or fast[0])
        assert result(0) == result(1 << 30), path.read_bytes()
        by_polars += bool(fast and fast[0])
    assert by_polars > 50


def test_parquet_values_that_are_missing(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "t.parquet"
    columns = {"n": [1, None, 3], "x": [0.5, float("nan"), None], "k": ["u", None, "v"], "y": ["p", "q", "p"]}
    parquet.write_table(pyarrow.table(columns), path)
    n, x, k = read(path).X.columns
    assert np.array_equal(n, [1, np.nan, 3], equal_nan=True) and k.tolist() == ["u", "", "v"]
    assert np.array_equal(x, [0.5, np.nan, np.nan], equal_nan=True)
    refuses(path, "column 'k' (the target)", "missing value at row 1", target="k")
    refuses(path, "column 'n' (the target)", "missing value at row 1", target="n")


# --- NumPy ---


def test_npz_by_the_usual_names(tmp_path, rng):
    X, y = rng.standard_normal((9, 2, 3)).astype(np.float32), rng.integers(0, 3, 9)
    for x_name, y_name in [("X", "y"), ("x", "y"), ("data", "target"), ("images", "labels")]:
        np.savez_compressed(tmp_path / "t.npz", **{y_name: y, x_name: X, "extra": [1]})
        table = read(tmp_path / "t.npz")
        assert np.array_equal(table.X, X.reshape(9, 6)) and np.array_equal(table.y, y)
        assert table.X.dtype == np.float32 and table.y.dtype == np.int64
        assert table.X_test is None


def test_npz_brings_its_own_test_part(tmp_path, rng):
    X, y = rng.integers(0, 256, (10, 4, 4)).astype(np.uint8), rng.integers(0, 3, (10, 1))
    np.savez(tmp_path / "t.npz", x_train=X[:7], y_train=y[:7], x_test=X[7:], y_test=y[7:])
    table = read(tmp_path / "t.npz")
    assert table.X.shape == (7, 16) and table.X_test.shape == (3, 16)
    assert table.X.dtype == np.uint8 and table.y.shape == (7,) and table.y_test.shape == (3,)


def test_npz_of_two_arrays_of_other_names(tmp_path, rng):
    X, y = rng.standard_normal((8, 3)), rng.standard_normal(8)
    np.savez(tmp_path / "t.npz", outcome=y, measurements=X)
    assert np.array_equal(read(tmp_path / "t.npz").X, X)
    np.savez(tmp_path / "t.npz", a=X, b=X)
    refuses(tmp_path / "t.npz", "found a, b", "cannot tell X from y")
    assert read(tmp_path / "t.npz", "b").y.shape == (8, 3)
    np.savez(tmp_path / "t.npz", a=X, b=X, c=y)
    refuses(tmp_path / "t.npz", "found a, b, c")
    refuses(tmp_path / "t.npz", "which is X", target="c")
    refuses(tmp_path / "t.npz", "got 'd'", "Known: a, b, c", target="d")


def test_npz_text_labels_agree_between_the_parts(tmp_path):
    X = np.ones((3, 2))
    parts = {"x_train": X, "y_train": ["b", "a", "c"], "x_test": X, "y_test": ["c", "a", "a"]}
    np.savez(tmp_path / "t.npz", **parts)
    table = read(tmp_path / "t.npz")
    assert table.classes == ["a", "b", "c"]
    assert table.y.tolist() == [1, 0, 2] and table.y_test.tolist() == [2, 0, 0]
    np.savez(tmp_path / "t.npz", **{**parts, "y_test": ["c", "a", "z"]})
    refuses(tmp_path / "t.npz", "test part", "got 'z'")
    np.savez(tmp_path / "t.npz", **{**parts, "y_test": [1, 2, 3]})
    refuses(tmp_path / "t.npz", "text in one part")


def test_npy_with_a_target_file_or_column(tmp_path, rng):
    X, y = rng.standard_normal((6, 3)), rng.integers(0, 2, 6)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    for target in (tmp_path / "y.npy", str(tmp_path / "y.npy"), "y.npy"):
        table = read(tmp_path / "X.npy", target)
        assert np.array_equal(table.X, X) and np.array_equal(table.y, y)
    table = read(tmp_path / "X.npy", "-2")
    assert np.array_equal(table.X, X[:, [0, 2]]) and np.array_equal(table.y, X[:, 1])
    refuses(tmp_path / "X.npy", "takes a target")
    refuses(tmp_path / "X.npy", "got column 3", target=3)
    refuses(tmp_path / "X.npy", "got 'price'", target="price")
    refuses(tmp_path / "X.npy", "z.npy", "no such file", target="z.npy", error=FileNotFoundError)
    np.save(tmp_path / "y.npy", y[:4])
    refuses(tmp_path / "X.npy", "6 samples", "4", target="y.npy")


def test_arrays_come_out_native_writable_and_contiguous(tmp_path, rng):
    X = np.asfortranarray(rng.standard_normal((5, 4)).astype(">f4"))
    np.savez(tmp_path / "t.npz", X=X, y=np.array([True, False, True, True, False]))
    table = read(tmp_path / "t.npz")
    assert np.array_equal(table.X, X) and table.X.dtype.isnative
    assert table.X.flags.c_contiguous and table.X.flags.writeable
    assert table.y.tolist() == [1, 0, 1, 1, 0] and table.y.dtype == np.int64


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_found(tmp_path, rng, value):
    X, y = rng.standard_normal((700, 5)), rng.standard_normal(700)
    X[613, 4] = value
    np.savez(tmp_path / "t.npz", X=X, y=y)
    refuses(tmp_path / "t.npz", f"X is {value}", "row 613, column 4")
    X[613, 4], y[2] = 0, value
    np.savez(tmp_path / "t.npz", X=X, y=y)
    refuses(tmp_path / "t.npz", f"y is {value}", "row 2")


@pytest.mark.parametrize(
    "X, y, words",
    [
        (np.zeros((0, 3)), np.zeros(0), ["shape (0, 3)"]),
        (np.zeros((3, 0)), np.zeros(3), ["shape (3, 0)"]),
        (np.zeros((3, 2), complex), np.zeros(3), ["complex128", "takes numbers"]),
        (np.array([["a"], ["b"]]), np.zeros(2), ["X has dtype", "takes numbers"]),
        (np.zeros((3, 2)), np.zeros((3, 2, 2)), ["y has dtype", "(3, 2, 2)"]),
        (np.zeros((3, 2)), np.zeros(4), ["3 samples", "4"]),
    ],
)
def test_arrays_that_are_no_table(tmp_path, X, y, words):
    np.savez(tmp_path / "t.npz", X=X, y=y)
    refuses(tmp_path / "t.npz", *words)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def test_pickles_are_never_run(tmp_path):
    objects = np.empty(2, object)
    objects[:] = [Bomb(), 1]
    np.save(tmp_path / "t.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "t.npz", X=objects, y=np.zeros(2))
    (tmp_path / "raw.npy").write_bytes(pickle.dumps(Bomb()))
    for name in ("t.npy", "t.npz", "raw.npy"):
        refuses(tmp_path / name, "pickle", target=None)


@pytest.mark.parametrize("name", ["t.npz", "t.npy", "t.csv.gz", "t-images-idx3-ubyte.gz"])
def test_damaged_files_name_themselves(tmp_path, rng, name):
    path = tmp_path / name
    if name.endswith(".npz"):
        np.savez_compressed(path, X=rng.standard_normal((50, 3)), y=np.zeros(50))
    elif name.endswith(".npy"):
        np.save(path, rng.standard_normal((50, 3)))
    else:
        path.write_bytes(gzip.compress(rng.bytes(4000)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    refuses(path, target="0" if name.endswith(".npy") else None)


def test_any_damage_to_an_archive_is_a_plain_error(tmp_path, rng):
    path = tmp_path / "t.npz"
    np.savez_compressed(path, X=rng.standard_normal((6, 3)), y=np.arange(6))
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    refused = 0
    for _ in range(200):
        data = whole.copy()
        data[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
        path.write_bytes(data.tobytes())
        try:
            read(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_members_of_an_archive_that_are_no_arrays(tmp_path):
    path = tmp_path / "t.npz"
    for X, y in ((b"text", b"text"), (None, b"text"), (b"", None)):
        np.savez(path, **{k: np.zeros((3, 2)) for k, v in (("X", X), ("y", y)) if v is None})
        with zipfile.ZipFile(path, "a") as archive:
            for name, content in (("X.npy", X), ("y", y)):
                if content is not None:
                    archive.writestr(name, content)
        refuses(path)
        with pytest.raises(ValueError, match="t.npz"):
            features(path) if X is not None else read(path)


def test_arrays_of_one_name_are_refused(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, X=np.zeros((3, 2)), y=np.zeros(3))
    with zipfile.ZipFile(path, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own
        archive.writestr("X.npy", archive.read("X.npy"))
    refuses(path, "holds 'X' more than once")


# --- idx ---


def idx(path, array, code=0x08, packed=False):
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    data = bytes([0, 0, code, array.ndim]) + sizes + array.tobytes()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("part, dash", [("train", "-"), ("t10k", "-"), ("train", ".")])
def test_idx_finds_its_labels(tmp_path, rng, suffix, part, dash):
    X = rng.integers(0, 256, (11, 5, 3)).astype(np.uint8)
    y = rng.integers(0, 10, 11).astype(np.uint8)
    images = tmp_path / f"{part}-images{dash}idx3-ubyte{suffix}"
    idx(images, X, packed=bool(suffix))
    refuses(images, "no labels beside it", f"{part}-labels{dash}idx1", error=FileNotFoundError)
    idx(tmp_path / f"{part}-labels{dash}idx1-ubyte{suffix}", y, packed=bool(suffix))
    table = read(images)
    assert table.X.dtype == np.uint8 and np.array_equal(table.X, X.reshape(11, 15))
    assert np.array_equal(table.y, y) and table.y.dtype == np.int64
    assert table.X.flags.writeable


def test_idx_labels_packed_otherwise_or_given(tmp_path, rng):
    X, y = rng.integers(0, 256, (4, 2, 2)).astype(np.uint8), np.arange(4, dtype=np.uint8)
    images = idx(tmp_path / "a-images-idx3-ubyte", X)
    idx(tmp_path / "a-labels-idx1-ubyte.gz", y, packed=True)
    assert read(images).y.tolist() == [0, 1, 2, 3]
    idx(tmp_path / "others-idx1-ubyte", y[::-1])
    assert read(images, "others-idx1-ubyte").y.tolist() == [3, 2, 1, 0]
    refuses(images, "gone", "no such file", target="gone", error=FileNotFoundError)


def test_idx_of_other_types(tmp_path, rng):
    X = rng.standard_normal((3, 4))
    path = idx(tmp_path / "t-images-idx2-ubyte", X.astype(">f8"), code=0x0E)
    idx(tmp_path / "t-labels-idx1-ubyte", np.arange(3, dtype=">i4"), code=0x0C)
    table = read(path)
    assert np.array_equal(table.X, X) and table.X.dtype.isnative and table.y.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda data: data[:-1], ["truncated", "(3, 2, 2)", "takes 28 bytes, got 27"]),
        (lambda data: data + b"!", ["left over", "got 29"]),
        (lambda data: data[:9], ["truncated", "header"]),
        (lambda data: b"\1" + data[1:], ["not an idx file", "01 00 08 03"]),
        (lambda data: data[:2] + b"\7" + data[3:], ["not an idx file"]),
        (lambda data: data[:4] + b"\xff" * 12 + data[16:], ["truncated"]),
        (lambda data: b"", ["not an idx file", "nothing"]),
    ],
)
def test_bad_idx_says_what_is_wrong(tmp_path, change, words):
    path = idx(tmp_path / "t-images-idx3-ubyte", np.zeros((3, 2, 2), np.uint8))
    path.write_bytes(change(path.read_bytes()))
    refuses(path, *words)


def test_idx_labels_in_place_of_images(tmp_path):
    refuses(idx(tmp_path / "t-labels-idx1-ubyte", np.zeros(3, np.uint8)), "takes the images' file")


# --- any ---


def test_files_that_are_none(tmp_path):
    refuses(tmp_path / "gone.csv", "no such file", error=FileNotFoundError)
    refuses(tmp_path, "is a folder")
    refuses(write(tmp_path / "t.xlsx", "x"), "unknown kind of file", ".npz, .npy", ".csv", ".parquet")
