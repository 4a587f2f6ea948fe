"""What the command line's tests share: a folder of their own, and the command as a function."""

import pytest

from fastbp import cli


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """run(*argv) -> (exit code, what went to stdout, what went to stderr)."""

    def run(*argv):
        before = capsys.readouterr().out  # the seed of rng
        code = cli.main([str(a) for a in argv])
        out, err = capsys.readouterr()
        print(before, end="")
        return code, out, err

    return run


@pytest.fixture
def fails(run):
    """The command ends with 2 and one line on stderr that says all of the words."""

    def fails(*argv, says):
        code, _, err = run(*argv)
        assert code == 2 and err.startswith("fastbp: error: "), err
        assert err.count("\n") == 1 and "Traceback" not in err
        for word in says:
            assert word in err, err

    return fails
