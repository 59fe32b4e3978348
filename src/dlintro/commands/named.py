"""The folder of the run or sweep that a word on the command line names."""

from pathlib import Path

from dlintro.errors import UsageError, refuse_url


def find_run(word: str) -> Path:
    """The path of a run, a sweep or a checkpoint. UsageError where there is none of that name."""
    refuse_url(word)
    path = Path(word).expanduser()
    if not path.exists():
        raise UsageError(f"{word}: there is no such file or folder")
    return path
