"""The facts of the published sets, before anything is loaded."""

import subprocess
import sys


def test_the_facts_need_neither_torch_nor_lightning() -> None:
    code = "import sys, dlintro.data.published; sys.exit(bool({'torch', 'lightning', 'numpy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
