"""A full disk is said in one line, whichever library met it."""

import errno
import resource
import sys

import pytest
import torch

from tagpr import cli
from tagpr.evaluation.runner import one_line
from tagpr.files import no_space

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def torch_error(tmp_path):
    """What torch.save says of a file that ends short: its real error, met at a limit of the file's size."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(RuntimeError) as caught:
            torch.save({"weights": torch.zeros(300_000)}, tmp_path / "optimizer.pt")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    return caught.value


def test_a_full_disk_is_known_by_its_errors(torch_error):
    for error in (FULL, torch_error):
        assert no_space(error)
        assert one_line(error).startswith("no space left on the disk")
        wrapped = ValueError("could not save")
        wrapped.__cause__ = error
        assert no_space(wrapped)


def test_other_errors_are_not_a_full_disk():
    assert not no_space(FileNotFoundError(2, "No such file")) and not no_space(RuntimeError("out of memory"))


def test_the_command_says_it_in_one_line(monkeypatch, capsys):
    def full(*_args, **_options):
        raise FULL

    monkeypatch.setattr("tagpr.pipeline.make", full)
    monkeypatch.setattr(sys, "argv", ["tagpr", "run", "smoke", "--quiet"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: no space left on the disk; free some, and the same command continues\n"
