"""The test that the list names for a mutant fails with the mutant, and passes on the real code."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.checkout import ROOT, copied
from tests.mutants.mutants import MUTANTS, Mutant

PASSED, FAILED = 0, 1  # pytest's exit status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]

KILLERS: dict[str, set[str]] = {}  # by file
for test in {test for mutant in MUTANTS for test in mutant.killers}:
    KILLERS.setdefault(test.partition("::")[0], set()).add(test)


@pytest.fixture(scope="module")
def server() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("server.py"))],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # a process with threads can't be forked
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate()  # closes its input, which ends it


def judged(server: "subprocess.Popen[str]", project: Path, words: Sequence[str]) -> tuple[int, str]:
    """Run pytest in its own process. Return its exit status and output, and remove the copy of the project."""
    assert server.stdin is not None and server.stdout is not None
    print(json.dumps({"project": str(project), "words": words}), file=server.stdin, flush=True)
    status = int(server.stdout.readline())
    said = (project / "said").read_text(encoding="utf-8", errors="replace")
    shutil.rmtree(project)
    return status, said


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_is_noticed(server: "subprocess.Popen[str]", tmp_path: Path, mutant: Mutant) -> None:
    project = copied(tmp_path / "project")
    mutant.apply(project)
    status, said = judged(server, project, ["-x", *mutant.killers])
    assert status != PASSED, f"nobody notices this mutant: sharpen {mutant.killer}"
    assert status == FAILED, f"no test could judge this mutant (status {status}):\n{said[-3000:]}"


@pytest.mark.parametrize("file", sorted(KILLERS))
def test_the_killers_pass_on_the_code_as_it_is(server: "subprocess.Popen[str]", tmp_path: Path, file: str) -> None:
    status, said = judged(server, copied(tmp_path / "project"), sorted(KILLERS[file]))
    assert status == PASSED, f"status {status}\n{said[-3000:]}"
