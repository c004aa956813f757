"""The texts hold: links lead somewhere, every page is in the site, Python blocks, examples and the notebook run."""

import os
import re
import runpy
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from chains_server import running_server
from tagpr.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)
FILE = re.compile(r"\b(?:benchmarks|tests|src/tagpr|recipes|examples)/[\w./-]+\.(?:py|json|yaml|md|ipynb)")
COMMAND = re.compile(r"(?:`|\$ |^)tagpr ([a-z]+)", re.M)
ENDPOINT = "http://localhost:8000/v1"  # as the pages write it; a test's server has another port


def anchors(page: Path) -> set[str]:
    """GitHub's anchors of a page's headings."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+\s+(.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name}: {target}: no such heading"


def test_every_page_is_in_the_site_and_linked_from_its_start():
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    listed = set(re.findall(r"[\w-]+\.md", str(config["nav"])))
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")}
    start = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert listed - {"index.md"} <= set(LINK.findall(start))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_commands_that_a_page_names_exist(page):
    text = page.read_text(encoding="utf-8")
    for name in FILE.findall(text):
        assert (ROOT / name).is_file() or "TASK" in name, name
    for verb in COMMAND.findall(text):
        assert verb in get_command(app).commands, verb


def test_every_example_is_listed():
    listed = set(re.findall(r"`(\w+\.(?:py|ipynb))`", (ROOT / "examples" / "README.md").read_text(encoding="utf-8")))
    assert listed == {path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the notebook has been run, which runs `smoke`: pages read `runs/smoke`."""
    import nbformat
    from nbclient import NotebookClient

    place = tmp_path_factory.mktemp("reader")
    os.environ.setdefault("IPYTHONDIR", str(place / ".ipython"))
    notebook = nbformat.read(ROOT / "examples" / "first_run.ipynb", as_version=4)
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(place)}}).execute()
    return place, notebook


@pytest.mark.timeout(900)
def test_the_notebook_shows_results_predictions_and_samples(folder):
    _, notebook = folder
    shown = [str(cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]
    for text, part in zip(shown, ("exploratory", "accuracy", "('", "r_prmu", "index.html"), strict=True):
        assert part in text


def python_blocks() -> list[tuple[str, str]]:
    """(page:number, code) of every Python block of every page."""
    found = []
    for page in PAGES:
        codes = [code for language, code in FENCE.findall(page.read_text(encoding="utf-8")) if language == "python"]
        found += [(f"{page.name}:{number}", code) for number, code in enumerate(codes)]
    return found


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("name", "code"), python_blocks(), ids=[name for name, _ in python_blocks()])
def test_python_blocks_run(name, code, folder, tmp_path, monkeypatch):
    """Each alone, in the folder of a finished `tagpr run smoke`, as a reader would paste it."""
    monkeypatch.chdir(folder[0])
    if ENDPOINT not in code:
        run(code, name)
        return
    with running_server(tmp_path) as address:
        run(code.replace(ENDPOINT, address), name)


def run(code: str, name: str) -> None:
    exec(compile(code, name, "exec"), {"__name__": "page"})


@pytest.mark.timeout(900)
@pytest.mark.parametrize("script", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_examples_run(script, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    runpy.run_path(str(script), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) >= 3
