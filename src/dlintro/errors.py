"""The errors that a user sees as one line. Any other error is a bug and keeps its traceback."""

import errno
import signal


class UsageError(ValueError):
    """The command or an argument is wrong. Names the key, what was found and what to type instead. Exit status 2."""


class RunError(RuntimeError):
    """Something failed while running, such as a download, a damaged file or a diverged run. Exit status 1."""


class Unresumable(RunError):
    """No run can resume from a checkpoint. The run itself is unchanged."""


DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EFBIG,
        errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)  # fmt: skip


def disk_trouble(error: BaseException | None) -> str:
    """Return why a file or folder couldn't be written, if the error or one of its causes is about that; else ""."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK:
            return str(error.strerror)
        error = error.__cause__ or error.__context__
    return ""


def one_line(error: Exception) -> str:
    """Return the text of another library's error, on one line, to be part of a message."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:300] + " ..."


def refuse_url(path: object) -> None:
    """Raise UsageError for a URL, which some readers would fetch. Nothing is loaded from the network."""
    if "://" in str(path):
        raise UsageError(f"{path}: this must be a file or folder on this machine, not a URL; download it first")


class Interrupted(BaseException):
    """Raised for Ctrl-C or SIGTERM once a checkpoint is written. It is no Exception, so no library catches it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def first_line(error: BaseException) -> str:
    """Return the error's name and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
