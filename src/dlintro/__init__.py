"""dlintro: train, compare and understand image classifiers with PyTorch Lightning and Hydra."""

import os
import signal
import sys

# Ctrl-C while one of our commands is still being imported ends it with its status and without Python's traceback; from
# `dlintro.command.exit_status` on, the command answers. `import dlintro` elsewhere changes nothing.
is_command = any(os.path.basename(word).startswith(("dlintro-", "dlintro.")) for word in sys.orig_argv[1:3])  # noqa: PTH119
if is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda signum, frame: os._exit(128 + signum))
