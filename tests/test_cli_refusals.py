"""What the command line itself refuses is one line with the command's name, and exit code 2."""

import sys

import pytest
import typer

from tagpr import cli


def said(monkeypatch, capsys, *arguments: str) -> tuple[object, str, str]:
    """Exit code, standard output, standard error of `tagpr arguments`."""
    monkeypatch.setattr(sys, "argv", ["tagpr", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    return stopped.value.code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--nosuch"], "error: tagpr run: no such option: --nosuch (see `tagpr run --help`)\n"),
        (["run"], "error: tagpr run: missing argument 'RECIPE' (see `tagpr run --help`)\n"),
        (["nope"], "error: tagpr: no such command 'nope' (see `tagpr --help`)\n"),
        (["serv"], "error: tagpr: no such command 'serv'. Did you mean 'serve'? (see `tagpr --help`)\n"),
        (["tasks", "nope"], "error: tagpr tasks: no such command 'nope' (see `tagpr tasks --help`)\n"),
    ],
)
def test_a_wrong_call_is_one_line(monkeypatch, capsys, arguments, line):
    assert said(monkeypatch, capsys, *arguments) == (2, "", line)


def test_a_value_of_the_wrong_kind_is_one_line(monkeypatch, capsys):
    code, out, line = said(monkeypatch, capsys, "serve", "somewhere", "--port", "abc\nd")
    assert (code, out, line.count("\n")) == (2, "", 1)
    assert line.startswith("error: tagpr serve: invalid value for '--port': ")


@pytest.mark.parametrize("arguments", [[], ["data"]])
def test_without_a_command_the_help_is_all_it_says(monkeypatch, capsys, arguments):
    code, out, line = said(monkeypatch, capsys, *arguments)
    assert (code, line) == (2, "") and "Usage: tagpr" in out


def test_exit_codes_of_commands_stay(monkeypatch, capsys):
    assert said(monkeypatch, capsys, "--version")[0] == 0

    def stopped(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("tagpr.pipeline.make", stopped)
    assert said(monkeypatch, capsys, "run", "smoke", "--quiet")[0] == 130

    def unanswered(*_args, **_options):
        raise typer.Abort

    monkeypatch.setattr("tagpr.pipeline.make", unanswered)
    code, _, line = said(monkeypatch, capsys, "run", "smoke", "--quiet")
    assert (code, line) == (2, "error: no answer was given\n")
