"""Opens a page in a browser without a window and returns its document after the scripts have run."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(BROWSER is None, reason="there is neither chromium nor google-chrome here")


def dumped(page: Path, hash_: str = "", size: str = "1280,720") -> tuple[str, list[str]]:
    """Return the document after its scripts have run, and the console's lines."""
    assert BROWSER
    profile = page.parent / "profile"
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
    command += ["--disable-background-networking", "--enable-logging=stderr", f"--user-data-dir={profile}"]
    command += [f"--window-size={size}", "--virtual-time-budget=3000", "--dump-dom", page.as_uri() + hash_]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=100, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def with_driver(page: Path, driver: str) -> Path:
    """Return a copy of the page that also runs this script."""
    text = page.read_text(encoding="utf-8")
    changed = re.sub(r"script-src '[^']*'", "script-src 'unsafe-inline'", text, count=1)
    assert changed != text
    copy = page.with_name("driven.html")
    copy.write_text(changed.replace("</body>", f"<script>{driver}</script></body>"), encoding="utf-8")
    return copy


def collected(document: str) -> Any:
    """Return what a driver put into the element with the id `collected`."""
    found = re.search(r'<pre id="collected">(.*?)</pre>', document, re.DOTALL)
    assert found, "the driver did not finish"
    return json.loads(html.unescape(found[1]))
