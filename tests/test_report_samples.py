"""What RL sampled, in the report: a seeded choice per step, rewards by part, hostile text as data."""

import re
from html import unescape

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from fake_run import HOSTILE, build_fake_run
from tagpr.report import write_report
from tagpr.report.samples import PER_STEP, STEPS, read_samples

PARTS = ("r_v", "r_rep", "r_f", "r_tag", "r_prmu")


def write_samples(run, stage, steps, per_step=6, group=7):
    rows = [
        {
            **{"step": step, "task": "package-section", "example_id": f"e{k}", "user_id": f"u{k}"},
            "completion": f"<think>\nstep {step}, sample {k} {HOSTILE} שלום\n</think>\nlibs",
            "reward": k / 10,
            **{part: k + i / 10 for i, part in enumerate(PARTS)},
            "advantage": -0.5,
        }
        for step in steps
        for k in range(per_step)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), run / stage / "samples.parquet", row_group_size=group)


@pytest.fixture
def run(tmp_path):
    return build_fake_run(tmp_path / "demo", users=3)


def test_a_seeded_choice_of_each_step_with_its_rewards_by_part(run):
    write_samples(run, "guided", range(1, 41))
    (found,) = read_samples(run)
    assert (found.stage, found.total, found.parts) == ("guided", 240, (*PARTS, "advantage"))
    assert len(found.steps) == STEPS and min(found.steps) == 1 and max(found.steps) == 40
    for step, chosen in found.steps.items():
        assert len({sample.example_id for sample in chosen}) == PER_STEP
        assert [sample.reward for sample in chosen] == sorted((s.reward for s in chosen), reverse=True)
        for sample in chosen:  # every value is of the row it stands with
            k = int(sample.example_id[1:])
            assert f"step {step}, sample {k} " in sample.completion and sample.reward == k / 10
            assert sample.parts == pytest.approx(
                {part: k + i / 10 for i, part in enumerate(PARTS)} | {"advantage": -0.5}
            )
    assert read_samples(run) == [found] != read_samples(run, seed=1)


def test_the_page_shows_them_as_text(run):
    write_samples(run, "guided", (1, 2))
    write_samples(run, "exploratory", (1,), per_step=2)
    page = write_report(run, run / "report").read_text(encoding="utf-8")
    section = page[page.index('id="samples"') : page.index('id="cases"')]
    assert section.count("<details>") == 3 and "r_prmu" in section and 'dir="auto"' in section
    assert "<img" not in section and HOSTILE in unescape(section)
    shown = re.findall(r'<div class="step untagged" dir="auto">(.*?)</div>', section, re.DOTALL)
    assert len(shown) == 2 * PER_STEP + 2


def test_without_samples_or_with_damaged_ones_the_page_has_no_such_part(run, caplog):
    assert read_samples(run) == []
    (run / "guided" / "samples.parquet").write_bytes(b"half a fi")
    parquet.write_table(pa.table({"step": [1], "reward": [0.5]}), run / "exploratory" / "samples.parquet")
    assert read_samples(run) == []
    assert "no column task, example_id, user_id, completion" in caplog.text and caplog.text.count("left out") == 2
    assert 'id="samples"' not in write_report(run, run / "report").read_text(encoding="utf-8")
