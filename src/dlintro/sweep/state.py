"""The state of a running sweep, which the runner changes and the display shows."""

from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess, SpawnProcess
from pathlib import Path

from dlintro.sweep.plan import Job


@dataclass
class Running:
    job: Job
    slot: int
    process: ForkServerProcess | SpawnProcess
    since: float
    attempt: int


class State:
    """`statuses` has each job's status by name. `elsewhere` are the jobs that other runners have. `stopped_by` is the
    signal that ended the sweep early, if any."""

    folder: Path
    jobs: Sequence[Job]
    n_jobs: int
    statuses: dict[str, str]
    waiting: list[Job]
    running: list[Running]
    elsewhere: list[Job]
    stopped_by: int | None
