"""TensorBoard's HParams with its columns arranged: first the settings that differ, then the results that matter most.

TensorBoard shows the first five columns of each kind, sorted by name, so that constants would push the results out of
sight. It may be given other plug-ins than its own (see tensorboard/main.py); the columns are all that differs here.
"""

from collections.abc import Sequence
from typing import Any

from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import Experiment
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin

from dlintro.run.record import WHOLE_RUN

OF_ONE_RUN = ("model", "data", "batch_size", "lr")  # are shown where nothing differs
SETTINGS = (*OF_ONE_RUN, "optimizer", "", "seed", "status")
METRICS = (
    "whole_run/best/val/acc", "whole_run/best/test/acc", "val/acc", "val/loss", "train/loss",
    "whole_run/best/test/loss", "whole_run/fit_seconds", "whole_run/train/images_per_second",
    "best/val/acc", "best/test/acc", "best/test/loss",  # of runs of earlier versions
    "",
)  # fmt: skip


class ArrangedHParams(HParamsPlugin):  # type: ignore[misc]
    def __init__(self, context: Any) -> None:
        super().__init__(context)
        self._context = ArrangedColumns(context)


class ArrangedColumns(Context):  # type: ignore[misc]
    def hparams_metadata(self, *arguments: Any, **options: Any) -> dict[str, dict[str, bytes]]:
        """Without the lists of columns that runs of earlier versions hold: TensorBoard would take one at random for all
        runs. Without any it finds out itself what differs."""
        found = super().hparams_metadata(*arguments, **options)
        return {
            run: {tag: content for tag, content in tags.items() if tag != metadata.EXPERIMENT_TAG}
            for run, tags in found.items()
        }

    def experiment_from_metadata(self, *arguments: Any, **options: Any) -> Experiment:
        experiment = super().experiment_from_metadata(*arguments, **options)
        settings = [info for info in experiment.hparam_infos if info.differs]
        settings = settings or [info for info in experiment.hparam_infos if info.name in OF_ONE_RUN]
        arranged = Experiment()
        arranged.CopyFrom(experiment)
        del arranged.hparam_infos[:], arranged.metric_infos[:]
        arranged.hparam_infos.extend(sorted(settings, key=lambda info: place(info.name, SETTINGS)))
        arranged.metric_infos.extend(sorted(experiment.metric_infos, key=lambda info: place(info.name.tag, METRICS)))
        for info in arranged.metric_infos:
            info.display_name = info.name.tag.removeprefix(WHOLE_RUN)  # the name that it has in record.json
        return arranged


def place(name: str, order: Sequence[str]) -> tuple[int, str]:
    """Sort a name by its place in the order. Names that aren't in it stand together where the order has ""."""
    return (order.index(name if name in order else ""), name)
