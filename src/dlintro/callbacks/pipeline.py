"""Watches: where a training step's time goes, in the steps of the slides' pipeline."""

import contextlib

from lightning.pytorch.profilers import Profiler


class Stopwatches(Profiler):
    """The Trainer puts each of a step's 60 parts into this profiler's hands. Its own profilers make a generator each
    time, which is a sixth of FlatNet's step; here it is one empty context."""

    _nothing = contextlib.nullcontext()

    def start(self, action_name: str) -> None: ...

    def stop(self, action_name: str) -> None: ...

    def profile(self, action_name: str) -> contextlib.AbstractContextManager[None]:  # type: ignore[override]
        return self._nothing
