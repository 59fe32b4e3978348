"""The two kinds of errors a user sees as one line; anything else is our fault and keeps its traceback."""

import errno
import signal


class UsageError(ValueError):
    """The command or an argument is wrong: says the key, what was found and what to type instead. Exit status 2."""


class RunError(RuntimeError):
    """Something failed while running (data that can't be had, a damaged file, a diverged run). Exit status 1."""


class Unresumable(RunError):
    """No run can go on from a checkpoint; the run itself is as it was."""


DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EFBIG,
        errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)  # fmt: skip


def disk_trouble(error: BaseException | None) -> str:
    """What a file or folder couldn't be written for, if that is what the error, or one that led to it, is about."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK:
            return str(error.strerror)
        error = error.__cause__ or error.__context__
    return ""


def one_line(error: Exception) -> str:
    """Somebody else's error, as a part of ours."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."


def refuse_url(path: object) -> None:
    """UsageError for what some readers would fetch: nothing is loaded from elsewhere."""
    if "://" in str(path):
        raise UsageError(f"{path}: a file or folder on this machine is needed, not a URL; download it first")


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM, answered after a checkpoint was written. Not an Exception: nothing below may swallow it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def first_line(error: BaseException) -> str:
    """The error's name and the first line of what it says."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
