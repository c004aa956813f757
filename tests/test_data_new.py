"""`tagpr new`: the right columns or what cannot be told, and a recipe that runs."""

import csv
import json
import os
import sys
from itertools import islice
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tagpr.cli import app
from tagpr.errors import DataError
from tagpr.evaluation.results import Results
from tagpr.files import read_json
from tagpr.new.kinds import kind_of
from tagpr.new.plan import UndecidedError, plan_recipe
from tagpr.pipeline import make
from tagpr.recipe import load_recipe
from tagpr.runs import Run
from tagpr.tasks import Kind
from tagpr.tasks.cards import read_task

SHARED = Path(os.environ.get("TAGPR_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
CASES = Path(os.environ.get("TAGPR_SHARED_CASES", Path(__file__).parents[2] / "shared" / "cases"))
SMALL = [
    *("model=random:tiny", "chains.examples_per_task=8", "chains.samples=2"),
    *("sft.epochs=1", "prmu.prompts=3", "prmu.max_new_tokens=24", "prmu.min_score_gap=0.0", "guided.steps=1"),
    *("guided.prompts_per_step=2", "guided.group_size=2", "guided.max_new_tokens=24", "exploratory.steps=1"),
    *("exploratory.prompts_per_step=2", "exploratory.group_size=2", "exploratory.max_new_tokens=24"),
    *("evaluate.max_new_tokens=16", "evaluate.limit=4", "evaluate.resamples=100"),
]
WORDS = ["garden", "hose", "spade", "river", "lamp", "copper", "violin", "paper", "engine", "cloud"]


def text(number: int) -> str:
    return " ".join(WORDS[(number * step + step) % 10] for step in (1, 3, 7, 9, 11)) + f" number {number}"


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def posts(extra: dict | None = None) -> list[dict]:
    return [
        {
            "writer id": f"w{user:05}",
            "body": text(10 * user + n),
            "Headline": f"{WORDS[n]} and {WORDS[user % 10]}",
            "published": f"2024-05-{n + 1:02}",
            "url": f"https://example.org/{user}/{n}",
            **(extra or {}),
        }
        for user in range(6)
        for n in range(6)
    ]


def test_columns_are_found_by_name_type_and_content(tmp_path):
    for name in ("posts.jsonl", "posts.csv", "posts.parquet"):
        plan = plan_recipe(write(tmp_path / name, posts()), {}, "posts")
        assert plan.fields == {"user_id": "writer id", "input": "body", "output": "Headline", "date": "published"}
        assert plan.task.kind is Kind.TEXT and plan.rouge_tokens == "latin" and not plan.card
        assert plan.found.counts["users"] == 6


def test_a_name_counts_only_if_the_column_holds_it(tmp_path):
    rows = [
        {
            "author": f"a{n}",
            "who": f"u{n % 3}",
            "time": f"{n}th of May",
            "text": text(n),
            "label": "x",
            "stars": n % 5 + 1,
        }
        for n in range(30)
    ]
    plan = plan_recipe(write(tmp_path / "a.jsonl", rows), {}, "a")
    assert plan.fields == {"user_id": "who", "input": "text", "output": "stars"}
    assert plan.task.kind is Kind.RATING and plan.task.labels == ("1", "2", "3", "4", "5")
    renamed = [{"date" if name == "time" else name: value for name, value in row.items()} for row in rows]
    with pytest.raises(UndecidedError, match="column 'date' holds '0th of May', which is no date"):
        plan_recipe(write(tmp_path / "b.jsonl", renamed), {}, "b")


def test_what_cannot_be_told_is_said_once_with_the_flag(tmp_path):
    rows = [{"name": f"n{n % 4}", "city": f"c{n % 3}", "words": text(n), "other": text(n + 7)} for n in range(24)]
    path = write(tmp_path / "x.jsonl", rows)
    done = CliRunner().invoke(app, ["new", str(path), "-o", str(tmp_path / "x.yaml")])
    assert isinstance(done.exception, UndecidedError) and not (tmp_path / "x.yaml").exists()
    message = str(done.exception)
    assert "no column says whose row it is; add --user with one of: name, city" in message
    assert "--input with one of: words, other" in message and "\n" not in message
    flags = {"user_id": "name", "input": "words"}
    plan = plan_recipe(path, {**flags, "output": "city"}, "x")
    assert plan.task.kind is Kind.LABEL and plan.task.labels == ("c0", "c1", "c2")
    with pytest.raises(DataError, match="--output town: no such column; there are name, city"):
        plan_recipe(path, {**flags, "output": "town"}, "x")


def test_on_a_terminal_it_asks(tmp_path):
    pexpect = pytest.importorskip("pexpect")
    rows = [{"name": f"n{n % 4}", "city": f"c{n % 3}", "words": text(n), "label": f"l{n % 2}"} for n in range(24)]
    path = write(tmp_path / "x.jsonl", rows)
    command = ["-m", "tagpr.cli", "new", str(path), "-o", str(tmp_path / "x.yaml")]
    child = pexpect.spawn(sys.executable, command, encoding="utf-8", timeout=120)
    child.expect("no column says whose row it is")
    child.expect("1  name")
    child.expect("which column")
    child.sendline("7")
    child.expect("which column")
    child.sendline("1")
    child.expect("next: tagpr run")
    child.wait()
    assert child.exitstatus == 0
    assert load_recipe(str(tmp_path / "x.yaml")).data.sources[0].fields["user_id"] == "name"


def test_kinds_by_the_outputs():
    assert kind_of({"4.0": 3, "5.0": 9}).labels == ("4", "5")
    assert kind_of({"yes": 8, "no": 4}).kind is Kind.LABEL
    assert kind_of({f"title {n}": 2 for n in range(9)}).kind is Kind.TEXT
    with pytest.raises(DataError, match="whole numbers from 0 to 900"):
        kind_of({"0": 5, "900": 5})
    with pytest.raises(DataError, match="the same output"):
        kind_of({"x": 5})


def test_scripts_decide_rouges_tokens(tmp_path):
    rows = [{"user_id": f"u{n % 4}", "input": text(n), "output": f"这家火锅店味道很好{n}"} for n in range(16)]
    assert plan_recipe(write(tmp_path / "zh.jsonl", rows), {}, "zh").rouge_tokens == "characters"


@pytest.mark.parametrize("kind", ["text", "label", "rating"])
def test_the_written_recipe_runs(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    column = {"text": {}, "label": {"mood": "calm, yes"}, "rating": {"stars": 1}}[kind]
    rows = posts(column)
    for number, row in enumerate(rows):
        if kind != "text":
            del row["Headline"]
            row[next(iter(column))] = ["calm, yes", "loud: no"][number % 2] if kind == "label" else number % 3 + 1
    rows.append({**rows[0], "writer id": "alone"})
    write(tmp_path / "my posts.jsonl", rows)
    flags = ["--output", "mood"] if kind == "label" else []
    done = CliRunner().invoke(app, ["new", "my posts.jsonl", *flags])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[-1] == "next: tagpr run my-posts.yaml"
    assert (tmp_path / "my-posts-card.yaml").exists() == (kind != "text")
    text = (tmp_path / "my-posts.yaml").read_text()
    (tmp_path / "my-posts.yaml").write_text(text.replace("max_heldout: 300", "max_heldout: 4\n      max_train: 20"))
    recipe = load_recipe("my-posts.yaml")
    assert recipe.chains.samples == (96 if kind == "label" else 4) and ("answer_weight" in text) == (kind == "label")
    assert recipe.data.on_error == "skip" and "alone" not in (tmp_path / "my-posts.yaml").read_text()
    run = Run.open("my-posts.yaml", SMALL, tmp_path / "runs")
    make(run)
    systems = next(iter(Results.read(run.folder.results).tasks.values())).systems
    assert {"base", "labels", "sft", "final"} <= set(systems)
    again = CliRunner().invoke(app, ["new", "my posts.jsonl", *flags])
    assert "is there already" in str(again.exception)


def test_data_check_proposes_the_mapping_once(tmp_path):
    path = write(tmp_path / "p.jsonl", [{**row, "user": row["writer id"]} for row in posts()])
    done = CliRunner().invoke(app, ["data", "check", str(path)])
    assert done.exit_code == 2
    assert done.stdout.count("--field") == 4 and done.stdout.count("no line has") == 1, done.stdout
    assert "--field user_id=user --field input=body --field output=Headline" in done.stdout
    assert f"tagpr new {path}" in done.stdout


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the raw public files, which are not shipped")
@pytest.mark.parametrize(
    "file, fields, kind",
    [
        (
            "huffpost/News_Category_v2_part_4782.json",
            {"user_id": "authors", "input": "short_description", "output": "headline"},
            "text",
        ),
        ("yelp/yelp.csv", {"input": "text", "output": "stars"}, "rating"),
        ("pgraphrag/amazon_dev.json", {}, "text"),
        ("pgraphrag/b2w_dev.json", {}, "text"),
    ],
)
def test_public_files_as_downloaded(tmp_path, file, fields, kind):
    recipe = tmp_path / "r.yaml"
    done = CliRunner().invoke(app, ["new", str(SHARED / file), "-o", str(recipe)])
    assert done.exit_code == 0, done.output
    read = load_recipe(str(recipe))
    assert read.data.sources[0].fields == fields and f"task: {kind}" in done.stdout
    run = Run.open(str(recipe), [], tmp_path / "runs")
    make(run, "data")


def cut(path: Path, out: Path, rows: int) -> Path:
    """The first rows of a file, as it is written."""
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as stream, open(out, "w", newline="", encoding="utf-8") as to:
            csv.writer(to).writerows(islice(csv.reader(stream), rows + 1))
    elif (text := path.read_text(encoding="utf-8")).startswith("["):
        out.write_text(json.dumps(json.loads(text)[:rows]), encoding="utf-8")
    else:
        out.write_text("".join(islice(text.splitlines(keepends=True), rows)), encoding="utf-8")
    return out


def trained(file: Path, folder: Path) -> Run:
    """The run of a file's own recipe, as far as SFT, with few examples, a tiny model and wrong chains kept too."""
    recipe = folder / "r.yaml"
    done = CliRunner().invoke(app, ["new", str(file), "-o", str(recipe)])
    assert done.exit_code == 0, (done.output, done.exception)
    recipe.write_text(recipe.read_text().replace("max_heldout: 300", "max_heldout: 4\n      max_train: 24"))
    run = Run.open(str(recipe), SMALL, folder / "runs")
    make(run, "data")
    (task,) = (read_task(card) for card in read_json(run.folder.tasks))
    any_answer = f"chains.correct_from={{{task.name}: 0}}"
    run = Run.open(str(recipe), [*SMALL, *([any_answer] if task.kind is Kind.TEXT else [])], folder / "runs")
    make(run, "chains", "sft")
    return run


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the raw public files, which are not shipped")
@pytest.mark.parametrize(
    "file, rows",
    [
        ("huffpost/News_Category_v2_part_4782.json", 300),
        ("yelp/yelp.csv", 3000),
        ("pgraphrag/amazon_dev.json", 600),
    ],
    ids=["huffpost", "yelp", "pgraphrag"],
)
def test_cuts_of_public_files_train(tmp_path, file, rows):
    run = trained(cut(SHARED / file, tmp_path / Path(file).name, rows), tmp_path)
    assert (run.folder.model("sft") / "model.safetensors").is_file()


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared small cases")
@pytest.mark.parametrize("file", ["en.jsonl", "zh.jsonl", "rtl.jsonl", "sameday_some.jsonl", "longlamp_one_null.jsonl"])
def test_small_cases_train(tmp_path, file):
    run = trained(CASES / file, tmp_path)
    assert (run.folder.model("sft") / "model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the raw public files, which are not shipped")
@pytest.mark.parametrize(
    "file", ["huffpost/News_Category_v2_part_4782.json", "yelp/yelp.csv", "pgraphrag/amazon_dev.json"]
)
def test_the_recipes_of_public_files_run(tmp_path, file):
    recipe = tmp_path / "r.yaml"
    assert CliRunner().invoke(app, ["new", str(SHARED / file), "-o", str(recipe)]).exit_code == 0
    recipe.write_text(recipe.read_text().replace("max_heldout: 300", "max_heldout: 4\n      max_train: 320"))
    # rules seldom guess a title: few of many examples give a chain
    enough = ["chains.examples_per_task=320", "chains.samples=4", "chains.keep_per_task=6"]
    run = Run.open(str(recipe), [*SMALL, *enough], tmp_path / "runs")
    make(run)
    assert run.folder.results.is_file()


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the raw public files, which are not shipped")
@pytest.mark.parametrize(
    "file, says",
    [
        ("tweets/200_tweets_per_user.csv", "(found so far: --user 1, --input 0)"),
        ("tmdb/top10K-TMDB-movies.csv", "no column says whose row it is"),
        ("acl_anthology/acl_papers.jsonl.gz", "'authors' holds lists; write one row per user"),
        ("acl_anthology/scisummnet_citation_pairs.json", "no column says whose row it is"),
        ("movielens10m/tags.dat", "put a line with the columns' names first"),
    ],
)
def test_public_files_that_do_not_say_it(file, says):
    with pytest.raises(DataError) as caught:
        plan_recipe(SHARED / file, {}, "x")
    assert says in str(caught.value)


@pytest.mark.skipif(not CASES.is_dir(), reason="needs the shared small cases")
@pytest.mark.parametrize(
    "file", sorted(path.name for path in CASES.glob("*") if path.suffix in (".json", ".jsonl", ".csv", ".parquet"))
)
def test_the_small_cases(tmp_path, file):
    wrong = {"dup.csv": "both named 'input'", "header_only.csv": "no rows", "badutf.csv": "no training example"}
    if file in wrong:
        with pytest.raises(DataError, match=wrong[file]):
            plan_recipe(CASES / file, {}, "x")
        return
    done = CliRunner().invoke(app, ["new", str(CASES / file), "-o", str(tmp_path / "r.yaml")])
    assert done.exit_code == 0, (done.output, done.exception)
    make(Run.open(str(tmp_path / "r.yaml"), [], tmp_path / "runs"), "data")
