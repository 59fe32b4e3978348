"""Progress bars are for people: none in a log file."""

import sys
from typing import Any

from rich.console import Console


def bar_settings() -> dict[str, Any]:
    """For rich's `track` and `wrap_file`."""
    return {"console": Console(stderr=True), "disable": not sys.stderr.isatty()}
