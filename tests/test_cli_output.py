from __future__ import annotations

import json
import subprocess
import sys

import pytest

from retrieveall.cli.output import print_json, print_table

_NOISY = """
import os, subprocess, sys
from retrieveall.cli.output import libraries_on_stderr, print_json
with libraries_on_stderr():
    print("a library prints")
    os.write(1, b"native code prints\\n")
    subprocess.run([sys.executable, "-c", "print('a worker prints')"], check=True)
print_json({"name": "Zürich"})
"""


def test_stdout_holds_only_json_whatever_libraries_print() -> None:
    done = subprocess.run([sys.executable, "-c", _NOISY], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == {"name": "Zürich"}
    for who in ("a library", "native code", "a worker"):
        assert f"{who} prints" in done.stderr


def test_json_keeps_letters_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "Пётр 東京"})

    assert "Пётр 東京" in capsys.readouterr().out


def test_json_refuses_not_a_number() -> None:
    with pytest.raises(ValueError, match="JSON"):
        print_json({"f1": float("nan")})


def test_table_shows_cells_with_markup_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["label", "f1"], [["[bold]PER", 0.5]])

    out = capsys.readouterr().out
    assert "[bold]PER" in out
    assert "0.500" in out
