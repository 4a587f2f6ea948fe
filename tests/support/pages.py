"""What stands in the pages between fences, run as a reader would paste it: in order, in one folder."""

import contextlib
import importlib.util
import io
import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    page
    for folder in (".", "docs", "examples", "kernels", "findings", "fastbp/datasets")
    for page in (ROOT / folder).glob("*.md")
)
# of fastbp's commands only read: they measure, clear what other tests use, or take minutes
READ = ("bench", "cache", "info")


def blocks(page):
    """(language, text) of each fenced block of a page."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def lines(text):
    """The commands of a shell block, each as a list of words: comments gone, && between two lines."""
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            yield words[:end]
            words = words[end + 1 :]


def run(page):
    """Run a page's Python and its fastbp commands; (the names that Python made, what commands printed)."""
    from fastbp import cli

    names, printed = {"__name__": "__main__"}, io.StringIO()
    for number, (language, text) in enumerate(blocks(page)):
        if language == "python":
            exec(compile(text, f"{page.name}, block {number}", "exec"), names)
        for words in lines(text) if language == "bash" else ():
            if words[0] == "fastbp" and words[1] not in READ and "--help" not in words:
                with contextlib.redirect_stdout(printed):
                    code = cli.main(words[1:])
                assert code == 0, f"{page.name}: {shlex.join(words)}"
    return names, printed.getvalue()


def lacking(words, extras):
    """What a command names that is not there: files of this repository, modules, extras."""
    if words[0] == "pip":
        asked = re.findall(r"\[([\w,]+)\]", " ".join(words))
        return [name for names in asked for name in names.split(",") if name not in extras]
    modules = [words[2]] if words[:2] == ["python", "-m"] else []
    files = [w for w in words if re.match(r"(tests|examples|findings|docs|bench|\.ci)/", w)]
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    return absent + [name for name in files if not (ROOT / name).exists()]
