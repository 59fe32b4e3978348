"""Runs a sweep's jobs in a number of slots, one process each, and reads their results from their folders alone.

The processes are forked from a server that has imported torch and done nothing else (multiprocessing's forkserver). A
job therefore starts in a fraction of a second in a clean process, and this process never imports torch.
"""

import contextlib
import multiprocessing
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock

from dlintro.errors import UsageError
from dlintro.sweep.display import Display, setting
from dlintro.sweep.job import ELSEWHERE, PRELOADED, JobSpec, run_job
from dlintro.sweep.plan import Job, note_images, place_of
from dlintro.sweep.preflight import Preflight, only_device, preflight
from dlintro.sweep.standing import FAILURES, Retry, attempts, end_record, standing, stored
from dlintro.sweep.state import Running, State

PATIENCE = 60.0  # seconds that an interrupted job may take to write its checkpoint
TICK = 0.5  # seconds between two checks of the jobs
ELSEWHERE_TICK = 2.0  # seconds between two checks of other runners' jobs


@contextlib.contextmanager
def unread_main() -> Iterator[None]:
    """Keep each process from reading the main script again, which somebody may be editing. Afterwards the caller's
    script or notebook finds its module unchanged."""
    main = vars(sys.modules["__main__"])
    before: dict[str, Any] = {name: main.pop(name) for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    try:
        yield
    finally:
        main.update(before)


class Runner(State):
    def __init__(self, folder: Path, jobs: Sequence[Job], n_jobs: int | None, retry: str | None) -> None:
        self.folder, self.jobs = folder, jobs
        # after a fork, macOS's system libraries may hang
        self._context: Any = multiprocessing.get_context("spawn" if sys.platform == "darwin" else "forkserver")
        self._asked_n_jobs = n_jobs
        steps = ((job.settings.data["batch_size"], job.settings.trainer.accumulate_grad_batches) for job in jobs)
        self._steps_differ = len(set(steps)) > 1  # in the images that one takes
        self.statuses = {job.name: standing(folder / job.name) for job in jobs}
        failed = {name for name, status in self.statuses.items() if status in FAILURES and retry == "failed"}
        self.retries = {job.name: Retry(attempts(folder / job.name) if job.name in failed else None) for job in jobs}
        self.waiting = [job for job in jobs if not self._leaves(job)]
        self.elsewhere: list[Job] = []
        self.running: list[Running] = []
        self.stopped_by: int | None = None
        self._stop_deadline = 0.0
        self._elsewhere_at = 0.0

    def run(self) -> None:
        if not self.waiting:
            return
        with self._signals(), unread_main(), Display(self) as self.display:
            self._start_server()
            self.found = self._preflight()
            if self.found.error is not None:
                raise UsageError(self.found.error)
            if self.found.note is not None:
                print(self.found.note, flush=True)
            with FileLock(self.folder / ".lock"):
                self.images = note_images(self.folder, self.found.images)
            self.n_jobs = self._asked_n_jobs or self._default_n_jobs()
            while self.running or (self.stopped_by is None and (self.waiting or self.elsewhere)):
                self._fill()
                wait([running.process.sentinel for running in self.running], TICK)
                self._reap()
                self._look_elsewhere()
                self._enforce_stop()
                self.display.update()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        old = {signum: signal.signal(signum, self._stop) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for signum, handler in old.items():
                signal.signal(signum, handler)

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        """Let the jobs write their checkpoints. A second signal kills them; they resume from their last ones."""
        self._stop_deadline = time.monotonic() + PATIENCE if self.stopped_by is None else 0.0
        self.stopped_by = signum
        for running in self.running:
            running.process.terminate()  # SIGTERM also for Ctrl-C, because a process may be started with SIGINT ignored

    def _enforce_stop(self) -> None:
        if self.stopped_by is not None and time.monotonic() > self._stop_deadline:
            for running in self.running:
                running.process.kill()

    def _start_server(self) -> None:
        """Start the server, which ignores Ctrl-C from its first moment. Its jobs set their own handlers."""
        if self._context.get_start_method() != "forkserver":
            return
        from multiprocessing import forkserver

        self._context.set_forkserver_preload(list(PRELOADED))
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        forkserver.ensure_running()
        signal.signal(signal.SIGINT, handler)

    def _preflight(self) -> Preflight:
        combinations = {setting(job): job.settings for job in self.waiting}  # setting() leaves out the seeds
        answers, answer = self._context.Pipe(duplex=False)
        process = self._context.Process(target=preflight, args=(answer, self.folder, combinations))
        process.start()
        answer.close()
        try:
            found: Preflight = answers.recv()
        except EOFError:
            print(
                "the check before the first job crashed, so every job gets one thread and chooses its own device",
                flush=True,
            )
            found = Preflight(1, 0, None, None, {})
        answers.close()
        process.join()
        process.close()
        return found

    def _default_n_jobs(self) -> int:
        on_accelerator = any(job.settings.accelerator.name != "cpu" for job in self.jobs)
        return max(1, self.found.num_accelerators) if on_accelerator else 1

    def _fill(self) -> None:
        taken = {running.slot for running in self.running}
        for slot in range(self.n_jobs):
            if slot in taken or self.stopped_by is not None:
                continue
            while self.waiting:
                job = self.waiting.pop(0)
                self.statuses[job.name] = standing(self.folder / job.name)
                if self.statuses[job.name] == "running":
                    self.elsewhere.append(job)
                elif self._leaves(job):
                    self.display.ended(job, None)
                else:
                    self._start(job, slot)
                    break

    def _leaves(self, job: Job) -> bool:
        return self.retries[job.name].leaves(self.folder / job.name, self.statuses[job.name])

    def _start(self, job: Job, slot: int) -> None:
        attempt = attempts(self.folder / job.name) + 1
        spec = JobSpec(
            folder=self.folder / job.name,
            settings=job.settings,
            overrides=job.overrides,
            command=job.command,
            retry=self.retries[job.name],
            attempt=attempt,
            threads=max(1, self.found.num_cores // self.n_jobs),
            n_jobs=self.n_jobs,
            images=self.images.get(place_of(job.settings)),
            by_images=self._steps_differ,
            environment=self._environment(job, slot),
        )
        process = self._context.Process(target=run_job, args=(spec,), name=job.name)
        process.start()
        self.statuses[job.name] = "running"
        self.running.append(Running(job, slot, process, time.monotonic(), attempt))
        if self.stopped_by is not None:  # the signal arrived while the job started
            process.terminate()

    def _environment(self, job: Job, slot: int) -> dict[str, str]:
        """Give each slot its own accelerator, if there are several and the job doesn't name one."""
        if self.found.num_accelerators < 2 or job.settings.accelerator.index != "auto":
            return {}
        return only_device(slot % self.found.num_accelerators)

    def _reap(self) -> None:
        for running in [running for running in self.running if not running.process.is_alive()]:
            self.running.remove(running)
            running.process.join()
            code = running.process.exitcode or 0
            running.process.close()
            if code == ELSEWHERE:
                self.elsewhere.append(running.job)
            else:
                self._settle(running, code)

    def _settle(self, running: Running, code: int) -> None:
        """Read a job's status after its process has ended. Write the record if a killed process couldn't."""
        name = running.job.name
        folder = self.folder / name
        status, written = standing(folder), stored(folder).get("status")
        began = written in (None, "running") or (code < 0 and attempts(folder) != running.attempt)
        died = began and status != "running"
        why = how_it_died(code, began=bool(written))
        if died and self.stopped_by is None and end_record(folder, "failed", why, running.attempt):
            status = "failed"
        self.statuses[name] = status
        if status == "running":  # another runner has already started it again
            self.elsewhere.append(running.job)
        elif status != "queued":  # a job that was stopped before it started has not ended
            self.display.ended(running.job, time.monotonic() - running.since)

    def _look_elsewhere(self) -> None:
        """Check other runners' jobs. They end, or their runner dies and this runner takes them."""
        if not self.elsewhere or time.monotonic() < self._elsewhere_at:
            return
        self._elsewhere_at = time.monotonic() + ELSEWHERE_TICK
        for job in list(self.elsewhere):
            status = standing(self.folder / job.name)
            if status != "running":
                self.elsewhere.remove(job)
                self.statuses[job.name] = status
                if self._leaves(job):
                    self.display.ended(job, None)
                else:
                    self.waiting.append(job)


def how_it_died(code: int, began: bool) -> str:
    how = f"killed by signal {-code}" if code < 0 else f"ended with status {code}"
    how += " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"{how}{'' if began else ' before it began'}; its train.log may say more"
