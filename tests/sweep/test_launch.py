"""Composing a sweep's combinations."""

from pathlib import Path
from typing import Any

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from dlintro.commands.train import main
from tests.sweep.conftest import TINY


@pytest.mark.parametrize(("launcher", "times"), [("process", 1), ("basic", 2)])
def test_each_combination_is_composed_once_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], launcher: str, times: int
) -> None:
    """Hydra's basic launcher checks none, so there the sweeper does it too."""
    compose, composed = ConfigLoaderImpl.load_sweep_config, []

    def counted(*arguments: Any, **named: Any) -> Any:
        composed.append(named)
        if len(composed) > 3:
            raise SystemExit(9)  # before basic's first job
        return compose(*arguments, **named)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["train"])
    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counted)
    status = main(["-m", *TINY, f"hydra/launcher={launcher}", "optim.lr=0.1,0.2,200"])
    assert status == (2 if times == 1 else 9), capsys.readouterr().err
    assert len(composed) == (3 if times == 1 else 4)
