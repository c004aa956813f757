"""Recipes, cards and vocabularies as users write them: read as they stand, or refused in one line with the place."""

import pytest

from tagpr.chains.vocabulary import load_vocabulary
from tagpr.errors import RecipeError
from tagpr.recipe import load_recipe
from tagpr.tasks import load_task

RECIPE = "name: mine\nmodel: random:tiny\ndata:\n  sources:\n  - {task: package-section}\n"
CARD = (
    "name: mood\nkind: label\ndescription: d\ninstruction: i\nquestion: '{{ text }}'\nentry: '{{ text }}'\n"
    "input_fields: [text]\nlabels: [calm, loud]\nmetrics: [accuracy]\nquery: '{{ text }}'\n"
)
PAIRS = zip("abcdefghijklmn", "bcdefghijklmno", strict=True)
BOMB = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{b}, *{b}, *{b}]\n" for b, c in PAIRS)


def complaint(path, kind):
    with pytest.raises(RecipeError) as caught:
        {"recipe": load_recipe, "card": load_task, "vocabulary": load_vocabulary}[kind](str(path))
    line = str(caught.value)
    assert "\n" not in line and len(line) < 500 and path.name in line
    return line


FAULTS = {
    "a bracket": ("x: [1, 2", ": not valid YAML"),
    "a tab": ("x:\n\t- 1", ": not valid YAML"),
    "an impossible date": ("x: 2024-13-45", "not valid YAML: month must be in 1..12"),
    "a number of 5000 digits": (f"x: {'9' * 5000}", "not valid YAML"),
    "a control character": ("x: a\x07b", "not valid YAML"),
    "two documents": ("x: 1\n---\ny: 2", "not valid YAML"),
    "a python tag": ("x: !!python/object/apply:os.system [ls]", "not valid YAML"),
    "an unknown alias": ("x: *nowhere", "not valid YAML"),
    "an alias in itself": ("x: &a [*a]", ""),
    "nested too deep": ("x: " + "[" * 3000, ""),
    "a duplicate key": ("x: 1\nx: 2", "duplicate key 'x'; keep one"),
    "a duplicate key inside": ("x: {y: 1, y: 2}", "duplicate key 'y'; keep one"),
    "a bomb": (BOMB, ""),
    "no mapping": ("- 1\n- 2", ""),
    "nothing": ("# nothing\n", ""),
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ["recipe", "card", "vocabulary"])
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_one_line(tmp_path, kind, fault):
    text, says = FAULTS[fault]
    path = tmp_path / "mine.yaml"
    path.write_text(text + "\n", encoding="utf-8")
    if kind == "vocabulary" and fault == "no mapping":
        says = "entry 1"
    assert says in complaint(path, kind)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_editors_encodings_and_line_ends(tmp_path, encoding, end):
    path = tmp_path / "mine.yaml"
    path.write_bytes(CARD.replace("calm", "ruhig-ü").replace("\n", end).encode(encoding))
    assert load_task(str(path)).labels == ("ruhig-ü", "loud")
    path.write_bytes(RECIPE.replace("\n", end).encode(encoding))
    assert load_recipe(str(path)).name == "mine"


@pytest.mark.parametrize("kind", ["recipe", "card", "vocabulary"])
def test_other_bytes_are_no_labels(tmp_path, kind):
    """A card in Latin-1 must not get labels with replacement characters, which no answer would match."""
    path = tmp_path / "mine.yaml"
    path.write_bytes(CARD.replace("calm", "ruhig-ü").encode("latin-1"))
    assert "mine.yaml:8: not UTF-8; save the file as UTF-8" in complaint(path, kind)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rewards: {alpha: .nan}", "rewards.alpha: input should be a finite number"),
        ("sft: {learning_rate: .inf}", "sft.learning_rate: input should be a finite number"),
        ("seed: .nan", "seed: "),
        ("evaluate: {temperature: yes}", ":6: evaluate.temperature: must be a number, not yes"),
        ("seed: 1:30", ":6: YAML reads 1:30 as sixties"),
        ("sft: {epochs: 1:30.5}", ":6: YAML reads 1:30.5 as sixties"),
        ("seed: yes", ":6: seed: must be a number, not yes"),
        ("sft: {epochs: no}", ":6: sft.epochs: must be a number, not no"),
        ("rewards: {gamma: 2024-01-01}", "rewards.gamma: "),
        ("profile: ~", "profile: "),
        ("1: x", ":6: 1: keys should be strings"),
        ("~: x", "keys should be strings"),
        ("sft: {no: 1}", ":6: sft.0: keys should be strings (got False)"),
        ("? [a, b]\n: x", ""),
        ("sft: &a {warmup_ratio: 0.5}\nguided: *a", "unknown key 'guided.warmup_ratio'"),
    ],
)
def test_values_that_yaml_reads_otherwise_than_they_look(tmp_path, line, says):
    path = tmp_path / "mine.yaml"
    path.write_text(f"{RECIPE}{line}\n")
    assert says in complaint(path, "recipe")


@pytest.mark.parametrize("override", ["name=2024-13-45", "x=[", "sft.epochs=" + "9" * 5000, "a=*b", "x={y: 1, y: 2}"])
def test_overrides_are_read_alike(override):
    with pytest.raises(RecipeError, match="override ") as caught:
        load_recipe("smoke", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("evaluate.resamples=5", "override 'evaluate.resamples=5': evaluate.resamples: input should be greater"),
        ("data.sources=[{tsk: x}]", "override 'data.sources=[{tsk: x}]': unknown key 'data.sources.0.tsk'"),
        ("sft={epochs: no}", "override 'sft={epochs: no}': sft.epochs: must be a number, not no"),
    ],
)
def test_a_wrong_override_is_named_and_not_the_files_line(override, says):
    with pytest.raises(RecipeError) as caught:
        load_recipe("smoke", [override])
    assert str(caught.value).startswith(says)


def test_what_an_alias_repeats_is_read(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE + "guided: &g {steps: 2}\nexploratory: {<<: *g, group_size: 3}\n")
    recipe = load_recipe(str(path))
    assert (recipe.exploratory.steps, recipe.exploratory.group_size, recipe.guided.steps) == (2, 3, 2)
