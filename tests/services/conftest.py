"""What the tests of the command line share."""

from __future__ import annotations

import sys

import pytest

from services import cli


@pytest.fixture
def daydreamer(monkeypatch, capsys):
    """Runs a command in this process: (exit code, what it said, what it complained of)."""
    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daydreamer", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "120")
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
        said = capsys.readouterr()
        return code, said.out, said.err
    return run
