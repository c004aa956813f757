"""What the RL stages watch: every figure of the log, trackers, the plateau, the warning, and refused settings."""

import json
import logging
import subprocess
import sys
from dataclasses import replace

import pytest
from pydantic import ValidationError

from tagpr.chains.evidence import Shown
from tagpr.chains.vocabulary import load_vocabulary
from tagpr.engine.tiny import build_tiny_model
from tagpr.engine.types import Completion
from tagpr.errors import RecipeError, RunError
from tagpr.progress import StageContext
from tagpr.rewards.composite import CompositeReward
from tagpr.rewards.settings import RewardSettings
from tagpr.tasks import load_task
from tagpr.training.gspo import train_gspo
from tagpr.training.heldout import keep_out
from tagpr.training.job import RLJob
from tagpr.training.launching import asked_processes, refuse_fewer_processes
from tagpr.training.rollout import Rollout
from tagpr.training.rows import TrainingRow
from tagpr.training.settings import GSPOSettings
from tagpr.training.trackers import Trackers
from tagpr.training.watch import Watch

SETTINGS = {"learning_rate": 1e-3, "prompts_per_step": 2, "group_size": 2, "max_new_tokens": 6, "precision": "fp32"}
EVERY_STEP = {
    "reward",
    "length",
    "truncated",
    "entropy",
    "clip_fraction",
    "clip_fraction/1",
    "clip_fraction/2",
    "zero_variance",
    "tag_rate",
    "format_rate",
    "loss",
    "grad_norm",
    *(f"reward/{name}" for name in ("verifiable", "format", "repetition", "tag", "prmu")),
}
EVERY_EVALUATION = {
    "kl",
    *(f"heldout/{name}" for name in ("reward", "verifiable", "format", "repetition", "tag", "length")),
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return build_tiny_model(tmp_path_factory.mktemp("policy"))


def rows(n=4):
    task = load_task("package-section").name
    return [TrainingRow(list(range(5, 12 + i)), task=task, target="utils", user_id=f"u{i // 2}") for i in range(n)]


def reward(evidence=0.0):
    task = load_task("package-section")
    shown = {(task.name, f"e{i}"): Shown(task, "a tool", "a tool", ()) for i in range(4)}
    return CompositeReward(
        {task.name: task},
        load_vocabulary(None),
        RewardSettings(delta_evidence=evidence),
        prmu=lambda users, *_: [0.5] * len(users),
        shown=shown,
    )


def read_log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def test_every_watch_value_is_logged_and_drawn(policy, tmp_path):
    from tagpr.report.charts import TITLES, _curve

    settings = GSPOSettings(**SETTINGS | {"steps": 2, "heldout_every": 2})
    asked = [replace(row, example_id=f"e{i}") for i, row in enumerate(rows())]
    train_gspo(RLJob(policy, asked, reward(evidence=0.1), settings, StageContext(tmp_path), heldout=asked[:2]))
    first, second = read_log(tmp_path)
    assert first.keys() >= EVERY_STEP | {"reward/evidence"} and second.keys() >= EVERY_STEP | EVERY_EVALUATION
    assert [key for key in TITLES if not _curve([first, second], key)] == [], "curves of the report not in the log"


def test_tensorboard_gets_every_figure(policy, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = GSPOSettings(**SETTINGS | {"steps": 2, "report_to": ["tensorboard"]})
    train_gspo(
        RLJob(policy, rows(), reward(), settings, StageContext(tmp_path / "guided"), trackers=tmp_path / "trackers")
    )
    events = EventAccumulator(str(tmp_path / "trackers" / "guided"))
    events.Reload()
    log = read_log(tmp_path / "guided")
    assert set(events.Tags()["scalars"]) == log[0].keys() - {"step"}
    found = [(event.step, event.value) for event in events.Scalars("reward")]
    assert found == [(row["step"], pytest.approx(row["reward"], rel=1e-6)) for row in log]


def test_a_tracker_that_is_not_installed_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="pip install trackio"):
        Trackers(["trackio"], "run", tmp_path)


def look(step, sampled, heldout):
    return {"step": step, "reward": sampled, "heldout/reward": heldout, "heldout/verifiable": heldout}


def test_plateau_needs_a_whole_window_without_gain(tmp_path):
    settings = GSPOSettings(heldout_every=1, heldout_prompts=1, plateau_evaluations=2, plateau_tolerance=0.01)
    watch, seen = Watch(settings, tmp_path), []
    for step, value in enumerate((0.2, 0.3, 0.305, 0.32, 0.325, 0.329), 1):
        watch.log.append(look(step, 0.0, value))
        seen.append(watch.on_plateau())
    assert seen == [False, False, False, False, False, True]  # 0.329 and 0.325 are within 0.01 of 0.32


def test_a_stage_ends_on_a_plateau_and_a_resumed_one_too(policy, tmp_path):
    constant = lambda prompts, completions, **_: [1.0] * len(completions)  # noqa: E731
    changes = {"steps": 9, "heldout_every": 1, "plateau_evaluations": 1, "save_steps": 1}
    settings = GSPOSettings(**SETTINGS | changes)
    metrics = train_gspo(
        RLJob(policy, rows(), constant, settings, StageContext(tmp_path), heldout=rows(2)), stop_after=1
    )
    assert metrics.steps == 1 and not (tmp_path / "model").exists()
    metrics = train_gspo(RLJob(policy, rows(), constant, settings, StageContext(tmp_path), heldout=rows(2)))
    assert metrics.steps == 2 and metrics.of == 9 and (tmp_path / "model").exists()
    assert len(read_log(tmp_path)) == 2


def test_rising_reward_with_falling_answers_warns_with_ten_examples(tmp_path, caplog):
    watch = Watch(GSPOSettings(heldout_every=1), tmp_path)
    texts = [[f"completion {g}/{i}" for i in range(3)] for g in range(4)]
    completions = [[Completion([5], None, True)] * 3] * 4
    rewards = [[0.05 * g, 0.3, 0.2] for g in range(4)]
    components = {"verifiable": [float(i) for i in range(12)]}
    rollout = Rollout([TrainingRow([], target=f"t{g}") for g in range(4)], completions, texts, rewards, components)
    with caplog.at_level(logging.WARNING):
        for step, (sampled, heldout) in enumerate(((0.1, 0.5), (0.2, 0.6), (0.3, 0.4)), 1):
            watch.note(look(step, sampled, heldout), rollout)
        assert not caplog.records  # the metric rose once on the way
        watch.note(look(4, 0.4, 0.3), rollout)
    assert len(caplog.records) == 1 and "gaming the reward" in caplog.text
    found = json.loads((tmp_path / "warnings" / "step-00004.json").read_text())
    assert len(found["completions"]) == 10
    assert len({row["target"] for row in found["completions"][:4]}) == 4
    assert found["completions"][0] == {"text": "completion 0/1", "reward": 0.3, "verifiable": 1.0, "target": "t0"}


def test_watched_rows_are_those_of_whole_people():
    train, watched = keep_out(rows(10), 3, seed=0)
    assert len(watched) == 4 and len(train) == 6
    assert not {row.user_id for row in train} & {row.user_id for row in watched}
    assert keep_out(rows(10), 0, seed=0) == (rows(10), [])


def test_keeping_out_every_prompt_is_refused():
    with pytest.raises(RunError, match=r"heldout_prompts=99: the 10 training prompts of .* leave none"):
        keep_out(rows(10), 99, seed=0)


@pytest.mark.parametrize(
    "changes",
    [
        {"minibatches": 1, "epsilon_low": 1e-3},
        {"minibatches": 3, "prompts_per_step": 2},
        {"heldout_prompts": 8},
        {"plateau_evaluations": 2},
        {"heldout_every": 2, "plateau_tolerance": 0.1},
    ],
)
def test_settings_of_which_nothing_would_come_are_refused(changes):
    with pytest.raises(ValidationError, match=r"set|lower"):
        GSPOSettings(**changes)


def test_looks_without_prompts_are_refused(policy, tmp_path):
    with pytest.raises(RunError, match="heldout_prompts"):
        train_gspo(
            RLJob(policy, rows(), reward(), GSPOSettings(**SETTINGS | {"heldout_every": 1}), StageContext(tmp_path))
        )


def test_sharding_asked_for_in_the_stages_is_refused(policy, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match=r"FSDP was requested, .* set rl.engine to trl"):
        train_gspo(RLJob(policy, rows(), reward(), GSPOSettings(**SETTINGS), StageContext(tmp_path)))


def test_fewer_processes_than_asked_for_are_refused(monkeypatch):
    assert asked_processes() is None
    monkeypatch.setenv("TAGPR_PROCESSES", "2")
    with pytest.raises(RecipeError, match="torchrun"):
        refuse_fewer_processes(1)
    refuse_fewer_processes(2)


@pytest.mark.slow
def test_accelerate_launch_on_cpu_is_found_out(tmp_path):
    """The real launcher: it starts one process although two were requested."""
    script = tmp_path / "train.py"
    script.write_text("from tagpr.training.launching import refuse_fewer_processes\nrefuse_fewer_processes(1)\n")
    command = [sys.executable, "-m", "accelerate.commands.accelerate_cli", "launch", "--cpu", "--num_processes", "2"]
    done = subprocess.run([*command, str(script)], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0 and "2 processes were requested but 1 run" in done.stderr
