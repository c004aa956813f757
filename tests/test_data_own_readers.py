"""A reader from the user's own file, module or entry point, named in the recipe like any other."""

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagpr.cli import app
from tagpr.data import DataSettings, SourceSettings, load_splits
from tagpr.data.formats.registry import READERS, find_reader, guess_reader
from tagpr.data.settings import FORMATS
from tagpr.errors import DataError, RecipeError

DOCS = Path(__file__).parents[1] / "docs" / "data.md"


@pytest.fixture
def folder(tmp_path):
    """The reader that docs/data.md shows, and a file in its format."""
    code = re.search(r"```python\n(class PipeReader:.*?)```", DOCS.read_text(encoding="utf-8"), re.S)
    assert code is not None
    (tmp_path / "my_reader.py").write_text(code[1])
    (tmp_path / "mine.pipes").write_text("".join(f"{u}|text {i} {u}|title {i}\n" for u in "ab" for i in range(4)))
    return tmp_path


def load(folder: Path, spec: str, on_error: str = "stop"):
    source = SourceSettings(task="generic-text", path="mine.pipes", format=spec)
    return load_splits(DataSettings(sources=(source,), on_error=on_error), 0, folder)["generic-text"]


def test_a_reader_of_ones_own_file(folder):
    splits = load(folder, "my_reader.py:PipeReader")
    assert (len(splits.train), len(splits.heldout), splits.report.reader) == (6, 2, "pipes")
    with (folder / "mine.pipes").open("a") as stream:
        stream.write("a|no title\n")
    with pytest.raises(DataError, match=r"mine.pipes:9: field 'output' is missing"):
        load(folder, "my_reader.py:PipeReader")
    assert [row.line for row in load(folder, "my_reader.py:PipeReader", "skip").rejects] == [9]


def test_a_reader_of_a_module_and_of_an_entry_point(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "my_reader", raising=False)
    assert load(folder, "my_reader:PipeReader").report.items == 8
    package = folder / "pipes-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: pipes\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[tagpr.readers]\npipes = my_reader:PipeReader\n")
    assert load(folder, "pipes").report.items == 8
    assert guess_reader(folder / "mine.pipes").name == "pipes"
    assert load(folder, "auto").report.reader == "pipes"


def test_check_reads_with_it_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, ["data", "check", "mine.pipes", "--format", "my_reader.py:PipeReader"])
    assert result.exit_code == 0 and "user|input|output, one interaction per line" in result.output
    assert "items: 8" in result.output


def test_what_is_no_reader_is_refused_in_one_line(folder):
    (folder / "my_reader.py").write_text(
        "class Half:\n    name = 'half'\n\n\nclass Needs:\n    def __init__(self, x): pass\n"
    )
    with pytest.raises(RecipeError, match=r"my_reader.py:Half: is no reader; it needs name, says, guess"):
        load(folder, "my_reader.py:Half")
    with pytest.raises(RecipeError, match=r"my_reader.py:Needs: cannot be made"):
        load(folder, "my_reader.py:Needs")
    with pytest.raises(RecipeError, match=r"defines no 'Gone'"):
        load(folder, "my_reader.py:Gone")


def test_settings_know_every_reader_by_name():
    assert tuple(reader.name for reader in READERS) == FORMATS
    assert [find_reader(name, None, Path()).name for name in FORMATS] == list(FORMATS)


WRONG = {
    "1 / 0": r"raised ZeroDivisionError: division by zero .wrong.py:\d+.",
    "[1, 2]": "read gave int; it must give all items",
    "3": "raised TypeError: 'int' object is not iterable",
    "[*items, Example('1', 'u', 't', 'i', 'o')]": "read gave Example; it must give all items",
    "({'user_id': 'a'} for _ in '12')": "read gave dict",
}


@pytest.mark.parametrize("given", WRONG)
def test_what_ones_own_reader_does_wrong_is_one_line(folder, given):
    code = "from tagpr.tasks import Example\n\n\nclass Wrong:\n    name = says = 'wrong'\n\n"
    code += "    def guess(self, path):\n        return 0.0\n\n    def read(self, path, source):\n"
    code += "        rows = [(1, {'user_id': 'a', 'input': 'i', 'output': 'o'})]\n"
    (folder / "wrong.py").write_text(f"{code}        items = source.items(rows, path)\n        return {given}\n")
    with pytest.raises(DataError, match=WRONG[given]) as caught:
        load(folder, "wrong.py:Wrong")
    assert "\n" not in str(caught.value) and "wrong.py:Wrong" in str(caught.value)


def test_a_generator_of_items_is_read(folder):
    code = (folder / "my_reader.py").read_text() + "\n\nclass Lazy(PipeReader):\n    def read(self, path, source):\n"
    (folder / "my_reader.py").write_text(code + "        yield from super().read(path, source)\n")
    assert load(folder, "my_reader.py:Lazy").report.items == 8
