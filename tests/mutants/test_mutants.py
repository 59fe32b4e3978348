"""Each mutant of the list is noticed by the test that the list names, which passes on the code as it is."""

import itertools
import json
import os
import queue
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.checkout import ROOT, copied
from tests.mutants.mutants import MUTANTS, Mutant

AT_A_TIME = 2  # runs of pytest, of one thread each
PASSED, FAILED = 0, 1  # pytest's exit status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]
Verdict = tuple[int, str]  # pytest's exit status, and what it said


class Judge:
    """Runs pytest in copies of the project, each time in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folders = (folder / str(number) for number in itertools.count())
        self.idle: queue.SimpleQueue[subprocess.Popen[str]] = queue.SimpleQueue()
        self.pool = ThreadPoolExecutor(AT_A_TIME)
        command = [sys.executable, str(Path(__file__).with_name("server.py"))]
        self.servers = [
            subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": "1"},  # a process with threads can't be forked
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(AT_A_TIME)
        ]
        for server in self.servers:
            self.idle.put(server)

    def submit(self, words: Sequence[str], mutant: Mutant | None = None) -> "Future[Verdict]":
        return self.pool.submit(self._run, next(self.folders), words, mutant)

    def _run(self, project: Path, words: Sequence[str], mutant: Mutant | None) -> Verdict:
        copied(project)
        if mutant is not None:
            mutant.apply(project)
        server = self.idle.get()
        assert server.stdin is not None and server.stdout is not None
        print(json.dumps({"project": str(project), "words": words}), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        self.idle.put(server)
        said = (project / "said").read_text(encoding="utf-8", errors="replace")
        shutil.rmtree(project)
        return status, said

    def end(self) -> None:
        self.pool.shutdown(cancel_futures=True)
        for server in self.servers:
            server.communicate()  # its input is closed, and it ends


@pytest.fixture(scope="module")
def verdicts(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, "Future[Verdict]"]]:
    """Of the mutants that were asked for, by name; and of their killers on the code as it is, by file."""
    asked = [
        item.callspec.params["mutant"] for item in request.session.items if item.originalname == "test_it_is_noticed"
    ]
    judge = Judge(tmp_path_factory.mktemp("mutants"))
    killers: dict[str, set[str]] = {}  # by the file in which they stand
    for test in {test for mutant in asked or MUTANTS for test in mutant.killers}:
        killers.setdefault(test.partition("::")[0], set()).add(test)
    yield (
        {mutant.name: judge.submit(["-x", *mutant.killers], mutant) for mutant in asked}
        | {file: judge.submit(sorted(tests)) for file, tests in killers.items()}
    )
    judge.end()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_is_noticed(verdicts: dict[str, "Future[Verdict]"], mutant: Mutant) -> None:
    status, said = verdicts[mutant.name].result()
    assert status != PASSED, f"nobody notices this mutant: sharpen {mutant.killer}"
    assert status == FAILED, f"no test could judge this mutant (status {status}):\n{said[-3000:]}"


def test_the_killers_pass_on_the_code_as_it_is(verdicts: dict[str, "Future[Verdict]"]) -> None:
    failed = [
        f"{name}: status {status}\n{said[-3000:]}"
        for name, future in verdicts.items()
        if name.startswith("tests/")
        for status, said in [future.result()]
        if status != PASSED
    ]
    assert not failed, "\n".join(failed)
