"""`tagpr compare`: failures, resuming, own systems, tables, published figures, the official format."""

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from chains_server import running_server
from tagpr.cli import app
from tagpr.data.formats.lamp import read_golds
from tagpr.data.rejects import Rejects
from tagpr.engine.models import resolve_model
from tagpr.errors import RecipeError
from tagpr.evaluation.groups import table_order
from tagpr.evaluation.official import write_official
from tagpr.evaluation.predictions import Prediction, read_predictions
from tagpr.evaluation.published import impossible, published
from tagpr.evaluation.results import Results
from tagpr.evaluation.scoring import SystemAnswers, score
from tagpr.evaluation.settings import EvaluationSettings
from tagpr.experiments.compare import compare
from tagpr.files import read_json, read_jsonl
from tagpr.report.system_charts import system_charts
from tagpr.report.tables.csv_file import to_csv
from tagpr.report.tables.latex import latex_escape, to_latex
from tagpr.report.tables.markdown import to_markdown
from tagpr.report.tables.paper import paper_table
from tagpr.report.tables.results import cost_table
from tagpr.runs import Run
from tagpr.runs.manifest import read_manifest
from tagpr.systems.cost import Cost
from tagpr.systems.registry import load_system, read_options
from tagpr.systems.settings import SystemSettings
from tagpr.tasks import load_task
from tagpr.tasks.metrics import correctness, score_one

OWN = '''
"""Answers with the last word of the question; counts its calls in a file."""

from pathlib import Path

from tagpr.systems import Answer, System


class LastWord(System):
    def fit(self, train):
        assert train and train[0].target
        self.once("table", lambda out: (out / "seen").write_text(str(len(train))))
        with open(self.context.folder.parent.parent / "calls", "a") as stream:
            stream.write("fit\\n")

    def predict(self, examples):
        assert all(example.target is None for example in examples)
        with open(self.context.folder.parent.parent / "calls", "a") as stream:
            stream.write("predict\\n")
        return [Answer(example.input.split()[-1]) for example in examples]


class Broken(System):
    def fit(self, train):
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    def predict(self, examples):
        return []


class Short(System):
    def predict(self, examples):
        return [Answer("libs")]
'''


def write_recipe(folder: Path, systems: list, **more) -> Path:
    (folder / "own.py").write_text(OWN, encoding="utf-8")
    recipe = {
        "name": "demo",
        "model": "random:tiny",
        "data": {"sources": [{"task": "package-section", "max_train": 20, "max_heldout": 9}]},
        "profile": {"retriever": "bm25", "k": 2},
        "prompt": {"max_prompt_tokens": 480},
        "evaluate": {"max_new_tokens": 8, "answer_tokens": 4, "resamples": 200, "chunk": 4},
        "systems": systems,
        **more,
    }
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    systems = [
        "majority",
        "rag-r",
        {"system": "own.py:LastWord", "label": "last_word & co"},
        {"system": "own.py:Broken", "label": "broken"},
        {"system": "own.py:Short", "label": "short"},
    ]
    recipe = write_recipe(folder, systems)
    return recipe, folder / "runs", compare(Run.open(recipe, runs=folder / "runs")).results


def test_every_system_has_a_row_and_failures_say_why(compared):
    _, runs, comparison = compared
    by_name = {row.name: row for row in comparison.systems}
    assert by_name["broken"].failure == "RuntimeError: CUDA out of memory. Tried to allocate 2 GiB"
    assert "1 answers for 4 examples" in by_name["short"].failure
    assert not any(by_name[name].failure for name in ("majority", "rag-r", "last_word & co"))
    task = comparison.tasks["package-section"]
    assert list(task.systems) == ["majority", "rag-r", "last_word & co"] and task.n == 9
    assert set(task.differences["rag-r"]) == {"majority", "last_word & co"}
    folder = runs / "demo" / "compare"
    assert Results.read(folder / "results.json") == comparison
    table = (folder / "table.md").read_text()
    assert "| broken | ✗ | failed |" in table and "CUDA out of memory" in table
    assert "Traceback" in next((folder / "systems").glob("broken*/failure.txt")).read_text()
    page = (folder / "report" / "index.html").read_text()
    assert "Every system" in page and "CUDA out of memory" in page and "last_word &amp; co" in page


def test_costs_are_kept(compared):
    _, _, comparison = compared
    row, cost = comparison.row("rag-r"), comparison.tasks["package-section"].systems["rag-r"].cost
    assert row.reasons and cost.prompt_tokens > 9 * 50 and cost.seconds > 0
    assert 0 < cost.completion_tokens <= 9 * 8
    assert row.fit.trained_parameters == 0


def test_done_systems_are_not_run_again_and_a_lost_chunk_is(compared):
    recipe, runs, comparison = compared
    systems = runs / "demo" / "compare" / "systems"
    calls = (systems / "calls").read_text().split()
    assert calls == ["fit", "predict", "predict", "predict"]
    again = compare(Run.open(recipe, runs=runs)).results
    assert (systems / "calls").read_text().split() == calls
    assert again.tasks == comparison.tasks
    folder = next(systems.glob("last*"))
    before = (folder / "predictions" / "package-section.jsonl").read_bytes()
    (folder / "predictions" / "package-section.jsonl").unlink()  # as after a kill while answering
    compare(Run.open(recipe, runs=runs))
    assert (systems / "calls").read_text().split() == [*calls, "fit", "predict", "predict", "predict"]

    def without_times(data: bytes):
        return re.sub(rb'"(cpu_)?seconds": [\d.e-]+', b"", data)

    assert without_times((folder / "predictions" / "package-section.jsonl").read_bytes()) == without_times(before)


def test_other_decoding_asks_anew_and_fits_anew_only_what_learns_from_written_texts(tmp_path):
    systems = [{"system": f"own.py:{kind}", "label": kind} for kind in ("LastWord", "Writer")]
    recipe = write_recipe(tmp_path, [*systems, "rag"])
    with open(tmp_path / "own.py", "a", encoding="utf-8") as stream:
        stream.write('\n\nclass Writer(LastWord):\n    depends = ("decoding",)\n')
    folder = tmp_path / "runs" / "demo" / "compare" / "systems"

    def fitted(*overrides):
        compare(Run.open(recipe, overrides, tmp_path / "runs"))
        made = {path.parents[2].name: path.stat() for path in folder.glob("*/work/table/seen")}
        return {name[:8]: (stat.st_ino, stat.st_mtime_ns) for name, stat in made.items()}

    before = fitted()
    assert len(before) == 2
    longest = max(row.tokens for row in read_predictions(folder / "rag" / "predictions" / "package-section.jsonl"))
    assert fitted("evaluate.resamples=300", "evaluate.generation_batch_size=3") == before
    after = fitted("evaluate.answer_tokens=9")
    assert {name for name in before if after[name] != before[name]} == {name for name in before if "Writer" in name}
    assert any("Writer" in name for name in before)
    rows = read_predictions(folder / "rag" / "predictions" / "package-section.jsonl")
    assert len(rows) == 9 and max(row.tokens for row in rows) > longest


def test_a_change_of_ones_own_file_starts_the_system_anew(compared):
    recipe, runs, _ = compared
    own = recipe.parent / "own.py"
    text = own.read_text()
    try:
        own.write_text(text.replace("split()[-1]", "split()[0]"))
        compare(Run.open(recipe, runs=runs))
        rows = read_predictions(next((runs / "demo/compare/systems").glob("last*/predictions/package-section.jsonl")))
        held = [
            json.loads(line) for line in (runs / "demo/data/package-section/heldout.jsonl").read_text().splitlines()
        ]
        first_words = {row["id"]: row["input"].split()[0] for row in held}
        assert all(row.completion == first_words[row.id] for row in rows)
    finally:
        own.write_text(text)
        compare(Run.open(recipe, runs=runs))


def test_predictions_stand_in_the_official_format(compared):
    _, runs, _ = compared
    folder = next((runs / "demo/compare/systems").glob("last*"))
    official = json.loads((folder / "official" / "package-section.json").read_text())
    rows = read_predictions(folder / "predictions" / "package-section.jsonl")
    assert official["task"] == "package-section"
    assert [gold["id"] for gold in official["golds"]] == [row.id for row in rows]
    task = load_task("package-section")
    for gold, row in zip(official["golds"], rows, strict=True):
        assert score_one(task, gold["output"], row.target) == row.scores


def test_official_files_read_back_as_golds(tmp_path):
    rows = [prediction(str(i), answer, "x") for i, answer in enumerate(["sci-fi", 'it\'s "based" on 書'])]
    path = write_official(tmp_path, load_task("lamp-2"), rows)
    assert path.name == "LaMP_2.json" and json.loads(path.read_text())["task"] == "LaMP_2"
    shutil.copy(path, tmp_path / "dev_outputs.json")
    (tmp_path / "dev_questions.json").touch()
    assert read_golds(tmp_path / "dev_questions.json", Rejects()) == {"0": "sci-fi", "1": 'it\'s "based" on 書'}


def test_mistakes_in_the_list_are_one_line_and_stop_before_anything_runs(tmp_path):
    for systems, message in (
        ([], "systems: the recipe lists none"),
        (["rag-r", "rag-r"], "duplicate 'rag-r'"),
        (["rag-q"], "no system 'rag-q'"),
        ([{"system": "pag", "entris": 3}], "pag: unknown option 'entris'; known: writer"),
        ([{"system": "api:gpt", "base_urk": "x"}], "unknown option 'base_urk'"),
    ):
        recipe = write_recipe(tmp_path, systems)
        with pytest.raises(RecipeError, match=message):
            compare(Run.open(recipe, runs=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_an_endpoint_answers_and_a_dead_one_only_fails_its_row(tmp_path):
    with running_server(tmp_path, "--log", str(tmp_path / "log")) as url:
        _ask_endpoints(tmp_path, url, tmp_path / "log")


def _ask_endpoints(tmp_path, url, log):
    options = {"cache": str(tmp_path / "calls.sqlite")}
    dead = {"base_url": "http://127.0.0.1:9/v1", "calls": {"attempts": 2, "backoff_s": 0.01}}
    systems = [
        {"system": "api:some/Model", "base_url": url, "reasons": True, **options},
        {"system": "api:gone", **dead, **options},
        "majority",
    ]
    recipe = write_recipe(tmp_path, systems)
    comparison = compare(Run.open(recipe, runs=tmp_path / "runs")).results
    rows = {row.name: row for row in comparison.systems}
    assert (
        rows["api:gone"].failure == "http://127.0.0.1:9/v1: connection refused; is the server running? check base_url"
    )
    assert not rows["majority"].failure and not rows["api:some/Model"].failure
    cost = comparison.tasks["package-section"].systems["api:some/Model"].cost
    assert rows["api:some/Model"].reasons and cost.completion_tokens == 9 * 20
    path = next((tmp_path / "runs/demo/compare/systems").glob("api-some*/predictions/package-section.jsonl"))
    found = read_predictions(path)
    assert all(row.completion.startswith("<think>\nThe question is about a thing.") for row in found)
    assert all(row.answer for row in found)
    asked = log.read_text().count("ask ")
    shutil.rmtree(tmp_path / "runs" / "demo" / "compare")
    compare(Run.open(recipe, runs=tmp_path / "runs"))
    assert log.read_text().count("ask ") == asked  # every reply was in the cache


def test_the_command_says_by_its_exit_code_that_a_row_failed(tmp_path):
    broken = "class Short(System):\n    def predict(self, examples):\n        return []\n"
    (tmp_path / "short.py").write_text(f"from tagpr.systems import System\n\n\n{broken}", encoding="utf-8")
    recipe = write_recipe(tmp_path, ["majority", {"system": "short.py:Short", "label": "short"}])
    arguments = ["compare", str(recipe), "--runs", str(tmp_path / "runs"), "--quiet"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1 and "error: 1 of 2 systems failed: short" in result.output
    assert "| majority | ✗ | **" in result.output  # the row that stands
    assert CliRunner().invoke(app, [*arguments, "systems=[majority]"]).exit_code == 0


def prediction(name: str, answer: str, target: str, task: str = "lamp-2") -> Prediction:
    card = load_task(task)
    scores, good = score_one(card, answer, target), correctness(card, answer, target)
    return Prediction(name, f"u{name}", answer, answer, target, scores, good, True, (), (), 1, 0, None)


def lamp_comparison():
    """Ratings: a third system is worse than Base and TagPR, which share the best MAE."""
    targets = ["1", "2", "3", "4"]
    answers = {"rag-r": ["1", "2", "3", "3"], "tagpr": ["1", "2", "3", "5"], "own_1": ["5", "5", "5", "1"]}
    runs = []
    for name, given in answers.items():
        rows = [prediction(str(i), a, t, "lamp-3") for i, (a, t) in enumerate(zip(given, targets, strict=True))]
        system = name if name != "own_1" else "own.py:Own"
        runs.append(SystemAnswers(name, system, name != "own_1", {"lamp-3": rows}, answer={"lamp-3": Cost()}))
    runs.append(SystemAnswers("zero-shot", "zero-shot", False, failure="endpoint 100% down & out"))
    ordered = sorted(runs, key=lambda run: table_order(run.system))
    return score({"lamp-3": load_task("lamp-3")}, ordered, ("rag-r", "tagpr"), EvaluationSettings(resamples=100))


def test_the_table_marks_best_second_and_published_rows():
    comparison = lamp_comparison()
    table = paper_table(comparison)
    assert [(row.name, row.published) for row in table.rows] == [
        ("Zero-shot", False), ("Zero-shot, published", True),
        ("RAG-R (Base)", False), ("RAG-R (Base), published", True),
        ("own_1", False), ("TagPR", False), ("TagPR, published", True),
    ]  # fmt: skip
    ranks = {row.name: [cell.rank for cell in row.cells] for row in table.rows}
    assert ranks["RAG-R (Base)"] == ranks["TagPR"] == [1, 1] and ranks["own_1"] == [2, 2]
    assert ranks["TagPR, published"] == [0, 0]  # printed figures compete with nobody
    markdown = to_markdown(table)
    assert "| TagPR | ✓ | **0.250** | **0.500** |" in markdown
    assert "| own\\_1 | ✗ | <u>" in markdown
    assert (
        "| TagPR, published | ✓ | 0.218 | 0.263! |" in markdown
        and "| RAG-R (Base), published | ✓ | 0.291 | 0.645 |" in markdown
    )
    assert "| Zero-shot | ✗ | failed |  |" in markdown and "endpoint 100% down & out" in markdown
    latex = to_latex(table)
    assert r"TagPR & $\checkmark$ & \textbf{0.250} & \textbf{0.500} \\" in latex
    assert r"own\_1 & $\times$ & \underline{" in latex and r"endpoint 100\% down \& out" in latex
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert [row["lamp-3 mae"] for row in rows if row["method"] == "TagPR"] == ["0.25"]
    assert {row["kind"] for row in rows} == {"ours", "published"}
    assert "− RAG-R (Base), 95%" in to_markdown(cost_table(comparison, "lamp-3"))


def test_a_system_that_does_not_answer_a_kind_of_task_has_a_dash_and_a_failed_one_has_none():
    rows = [prediction("0", "5", "5", "lamp-3")]
    runs = [
        SystemAnswers("majority", "majority", False, {"lamp-3": rows}, answer={"lamp-3": Cost()}),
        SystemAnswers("lead-sentence", "lead-sentence", False),
        SystemAnswers("rag", "rag", False, failure="out of memory"),
    ]
    table = paper_table(score({"lamp-3": load_task("lamp-3")}, runs, settings=EvaluationSettings(resamples=100)))
    markdown, latex = to_markdown(table), to_latex(table)
    assert "| lead-sentence | ✗ | – | – |" in markdown and "- –: does not answer this kind of task" in markdown
    assert "| RAG | ✗ | failed |  |" in markdown and r"lead-sentence & $\times$ & -- & -- \\" in latex


def test_the_reports_charts_hold_every_system_that_ran():
    comparison = lamp_comparison()
    values, differences = system_charts(comparison)
    assert [row[0] for row in values.rows] == ["RAG-R (Base)", "own_1", "TagPR"]
    assert values.rows[2][1] == 0.25 and "0.25 (" in values.svg and "+0.25" not in values.svg
    assert differences.title.endswith("difference to TagPR")
    assert dict(row[:2] for row in differences.rows) == {"RAG-R (Base)": 0.0, "own_1": 2.75}


def test_latex_prints_hostile_names_as_they_stand():
    assert latex_escape(r"a_b%{\x}~^$#&") == r"a\_b\%\{\textbackslash{}x\}\textasciitilde{}\textasciicircum{}\$\#\&"


def test_published_figures_are_whole_and_the_impossible_ones_are_flagged():
    systems = published().systems
    assert len(systems) == 23 and all(sum(map(len, by_task.values())) == 12 for by_task in systems.values())
    assert systems["sft-r"] == systems["w/o-rl"]
    flagged = {name for name, by_task in systems.items() if impossible(by_task["lamp-3"])}
    assert flagged == {"tagpr", "w/o-reward"}


def test_the_documented_system_of_ones_own_runs(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "baselines.md").read_text(encoding="utf-8")
    source = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    assert len(source.splitlines()) < 40
    (tmp_path / "word_votes.py").write_text(source, encoding="utf-8")
    systems = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[1])["systems"]
    sources = {"sources": [{"task": "package-section", "max_train": 400, "max_heldout": 60}]}
    recipe = write_recipe(tmp_path, systems[:2], data=sources)
    comparison = compare(Run.open(recipe, runs=tmp_path / "runs")).results
    scores = comparison.tasks["package-section"].systems
    assert scores["word votes"].points["accuracy"] > scores["majority"].points["accuracy"] + 0.05


def test_the_first_yaml_of_the_docs_is_a_valid_list(tmp_path):
    page = (Path(__file__).parent.parent / "docs" / "baselines.md").read_text(encoding="utf-8")
    systems = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0])["systems"]
    for entry in map(SystemSettings.model_validate, systems):
        if ".py:" not in entry.system:
            read_options(entry.system, load_system(entry.system), entry.options)


DIFFERENT_RUNS = ("smoke", "smoke-wo-sft", "smoke-wo-reward")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_tagpr_and_its_ablations_train_through_the_pipeline(tmp_path):
    names = ["rag-r", "sft-r", "w/o-rl", "w/o-sft", "w/o-tag", "w/o-reward", "w/o-exploratory", "tagpr"]
    runs = tmp_path / "runs"
    comparison = compare(Run.open("smoke", [f"systems=[{', '.join(names)}]"], runs)).results
    rows = {row.name: row for row in comparison.systems}
    assert [name for name in names if rows[name].failure] == []
    answers = {}
    for name in names:
        folder = name.replace("w/o", "without").replace("/", "-")
        path = runs / "smoke" / "compare" / "systems" / folder / "predictions" / "package-section.jsonl"
        answers[name] = [row.completion for row in read_predictions(path)]
    assert answers["sft-r"] == answers["w/o-rl"]  # the same thing twice over
    policy = rows["w/o-rl"].fit.trained_parameters
    assert rows["w/o-reward"].fit.trained_parameters == policy < rows["tagpr"].fit.trained_parameters
    assert rows["tagpr"].fit.trained_tokens > rows["w/o-exploratory"].fit.trained_tokens
    manifests = {
        name: read_json(runs / f"smoke-{name}" / "guided" / "manifest.json")
        for name in ("wo-sft", "wo-tag", "wo-reward")
    }
    assert manifests["wo-tag"]["settings"]["rewards"]["beta"] == 0
    assert (
        manifests["wo-reward"]["settings"]["rewards"]["gamma"] == 0 and "prmu" not in manifests["wo-reward"]["inputs"]
    )
    assert set(manifests["wo-sft"]["inputs"]) == {"data", "sft", "prmu"}
    own = read_manifest(runs / "smoke" / "prmu")
    assert manifests["wo-sft"]["inputs"]["prmu"] == own.hash  # the run's own reward model
    started = (runs / "smoke-wo-sft" / "sft" / "model" / "model.safetensors").read_bytes()
    assert started == (resolve_model("random:tiny") / "model.safetensors").read_bytes()  # from the untrained model
    first = {name: read_jsonl(runs / name / "guided" / "log.jsonl")[0] for name in ("smoke", "smoke-wo-tag")}
    paid = first["smoke"]["reward"] - 0.8 * first["smoke"]["reward/tag"]  # the same completions, without R_tag
    assert first["smoke-wo-tag"]["reward"] == pytest.approx(paid) != first["smoke"]["reward"]
    # a random model's completions all have the worst R_tag, so that only the other two train differently
    weights = {(runs / name / "guided/model/model.safetensors").read_bytes() for name in DIFFERENT_RUNS}
    assert len(weights) == len(DIFFERENT_RUNS)
