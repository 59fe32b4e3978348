"""hydra/launcher=process runs each job of a multirun in its own process. hydra/sweeper=once goes with it.

Hydra finds plug-ins only in this namespace package, so there is no __init__.py here. It imports this file at every
start, so the work is in dlintro.sweep, which is imported only when a sweep starts.
"""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class ProcessLauncher(Launcher):
    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config_loader, self.config = hydra_context.config_loader, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from dlintro.sweep.launch import launch

        return launch(self.config_loader, self.config, [list(words) for words in job_overrides])


class OnceSweeper(BasicSweeper):
    """Hydra's basic sweeper composes each combination to see whether it is legal, and throws the result away. The
    process launcher composes and checks all combinations before the first job, so here the sweeper needn't."""

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        if not isinstance(self.launcher, ProcessLauncher):
            super().validate_batch_is_legal(batch)


node: dict[str, Any] = {"_target_": "hydra_plugins.dlintro_launcher.ProcessLauncher"}
ConfigStore.instance().store(group="hydra/launcher", name="process", node=node, provider="dlintro")
sweeper = BasicSweeperConf(_target_="hydra_plugins.dlintro_launcher.OnceSweeper")
ConfigStore.instance().store(group="hydra/sweeper", name="once", node=sweeper, provider="dlintro")
