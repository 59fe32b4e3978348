"""How commands are named: as they can be typed here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dlintro import text
from dlintro.claims.command import parser

HINT = "try: scripts/train resume=outputs/my-scripts/train.log; /x/scripts/train is a path"


def test_in_an_environment_made_by_pip_commands_have_the_names_that_pip_gave_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(text, "SCRIPTS", tmp_path / "nowhere")
    assert text.typed("tensorboard") == "dlintro-tensorboard"
    assert text.as_typed(HINT) == HINT.replace("try: scripts/train", "try: dlintro-train")
    assert parser().format_help().startswith("usage: dlintro-claims [list | NAME ... | verdict DIR]")
    text.say(2, "no such claim; scripts/claims list shows them")
    assert capsys.readouterr().err == "dlintro: no such claim; dlintro-claims list shows them\n"


def test_from_another_folder_a_script_is_named_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(text.SCRIPTS.parent / "src")
    assert text.as_typed("scripts/train seed=1") == "../scripts/train seed=1"
    monkeypatch.chdir(text.SCRIPTS.parent)
    assert text.as_typed("scripts/train seed=1") == "scripts/train seed=1"


def test_a_terminal_of_another_encoding_loses_a_character_and_not_the_command() -> None:
    code = "from dlintro.text import keep_streams; keep_streams(); print('a – b ▀')"
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, encoding="latin-1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a ? b ?\n", "")
