"""A full disk is said in one line, whichever library met it; what was written before stays and is gone on with."""

import sys
from pathlib import Path

import pytest

from tagpr import cli
from tagpr.evaluation.systems import one_line
from tagpr.files import no_space

FULL = Path("/dev/full")  # Linux's device on which every write finds no space
needs_device = pytest.mark.skipif(not FULL.is_char_device(), reason="no /dev/full here")


def python_write():
    with open(FULL, "w") as stream:
        stream.write("x" * 100_000)


def torch_write():
    import torch

    torch.save({"weights": torch.zeros(300_000)}, FULL)


@needs_device
@pytest.mark.parametrize("write", [python_write, torch_write])
def test_a_full_disk_is_known_by_its_errors(write):
    with pytest.raises((OSError, RuntimeError)) as caught:
        write()
    assert no_space(caught.value)
    assert one_line(caught.value).startswith("no space left on the disk")
    wrapped = ValueError("could not save")
    wrapped.__cause__ = caught.value
    assert no_space(wrapped)


def test_other_errors_are_not_a_full_disk():
    assert not no_space(FileNotFoundError(2, "No such file")) and not no_space(RuntimeError("out of memory"))


@needs_device
def test_the_command_says_it_in_one_line(monkeypatch, capsys):
    def full(*_args, **_options):
        python_write()

    monkeypatch.setattr("tagpr.pipeline.run_recipe", full)
    monkeypatch.setattr(sys, "argv", ["tagpr", "run", "smoke", "--quiet"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: no space left on the disk; free some, and the same command continues\n"
