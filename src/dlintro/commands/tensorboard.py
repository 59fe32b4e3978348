"""scripts/tensorboard: TensorBoard over the runs, at an address that opens on the curves of the newest one."""

import argparse
import contextlib
import functools
import getpass
import io
import logging
import os
import platform
import re
import signal
import sys
import tempfile
import threading
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from dlintro.command import Parser, exit_status, terminated
from dlintro.errors import RunError, UsageError
from dlintro.run.named import find_run, folders_in, outputs_folder
from dlintro.text import shown_path, tell, typed

if TYPE_CHECKING:
    from tensorboard.program import TensorBoardServer

EVENTS = "events.out.tfevents.*"
DEEPEST = 3  # levels below a folder at which its runs may lie, as outputs/sweeps/NAME/JOB
CURVES = "^(train/loss_step|train/acc_step|val/acc|val/loss)$"
BY_IMAGES = "by_images"  # in a run's folder: its curves a second time, which would double the list of runs
LISTED = ("runs", "sweeps")  # of the outputs folder. The claims are left out: they have many charts of their own.
OWN_FOLDER = ("--logdir", "--db", "--inspect", "--version", "--helpfull", "--grpc_data_provider")
LOOK_AGAIN = 5.0  # seconds between two looks for new runs, as TensorBoard's own
NEXT_PORTS = 20  # that are tried where the one asked for is taken
DESCRIPTION = "TensorBoard over the runs and sweeps in outputs/, or over those that are named. Ctrl-C ends it."


def main() -> int:
    return exit_status(run)


def run() -> int:
    words = sys.argv[1:]
    first = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    names, options = words[:first], words[first:]
    if {"-h", "--help"} & set(options):
        parser = Parser("dlintro-tensorboard", DESCRIPTION)
        parser.add_argument("RUN", nargs="*", help="a run, a sweep, or a folder of them (outputs/claims, for example)")
        parser.add_argument("--host", metavar="ADDRESS", help="where to listen (default: localhost, for nobody else)")
        parser.add_argument("--port", metavar="N", help="the first port to try (default: 6006)")
        parser.epilog = "All other options of TensorBoard work too; --helpfull lists them."
        parser.parse_args(["--help"])
    if any(word.startswith(OWN_FOLDER) for word in options):
        if names:
            raise UsageError(f"{names[0]}: name a RUN or give {options[0]}, not both")
        return serve(options, functools.partial(announce, "the dashboard", tags=CURVES))
    named = [folder_of(name) for name in names]
    with linked(named) as logdir:
        said = f"the dashboard over {', '.join(map(shown_path, named or [outputs_folder()]))}"
        shown = filters(logdir, only_newest=not named)
        return serve(["--logdir", str(logdir), *options], functools.partial(announce, said, **shown))


def folder_of(name: str) -> Path:
    found = find_run(name)
    if not found.is_dir():
        raise UsageError(f"{name}: this is a file; name the folder of a run or a sweep")
    return found.absolute()


def folders_of(named: Sequence[Path]) -> list[Path]:
    """The runs and sweeps that TensorBoard is to show: those that are named, or those in the outputs folder."""
    found: list[Path] = []
    for folder in named or [outputs_folder().absolute()]:
        rooms = [folder / name for name in LISTED if (folder / name).is_dir()]
        whole = rooms or folder == outputs_folder().absolute()
        found += [path for room in rooms for path in folders_in(room)] if whole else [folder]
    return found


@contextlib.contextmanager
def linked(named: Sequence[Path]) -> Iterator[Path]:
    """The one folder that TensorBoard takes: a temporary one with links, which make the names of the runs short. Runs
    that begin later are linked soon. A sweep, or a folder of runs, that is named alone is taken as it is. RunError
    where there is no run yet."""
    folders = folders_of(named)
    if not any(map(runs_in, folders)):
        empty = ", ".join(map(shown_path, named or [outputs_folder()]))
        raise RunError(f"there are no runs in {empty} yet; {typed('train')} makes the first")
    if folders == list(named) and len(folders) == 1 and not any(folders[0].glob(EVENTS)):
        yield folders[0]
        return
    with tempfile.TemporaryDirectory(prefix="dlintro-tensorboard-") as name:
        link(folders, Path(name))
        ended = threading.Event()

        def go_on() -> None:
            while not ended.wait(LOOK_AGAIN):
                with contextlib.suppress(OSError):
                    link(folders_of(named), Path(name))

        looking = threading.Thread(target=go_on, daemon=True)
        looking.start()
        try:
            yield Path(name)
        finally:
            ended.set()
            looking.join()


def link(folders: Sequence[Path], where: Path) -> None:
    for folder in folders:
        long = f"{folder.parent.name}-{folder.name}"
        for label in (folder.name, long, *(f"{long}-{number}" for number in range(2, len(folders) + 1))):
            if not (where / label).is_symlink():
                (where / label).symlink_to(folder)
            if (where / label).readlink() == folder:
                break


def runs_in(folder: Path) -> list[Path]:
    """The folders with events, the newest first."""
    files = [path for depth in range(DEEPEST + 1) for path in folder.glob("*/" * depth + EVENTS)]
    files.sort(key=lambda path: path.lstat().st_mtime, reverse=True)
    return list(dict.fromkeys(path.parent for path in files))


def filters(logdir: Path, only_newest: bool) -> dict[str, str]:
    """TensorBoard's filters of runs and tags. `only_newest`: the runs are the newest one or, where that is a job of a
    sweep, the sweep."""
    runs = runs_in(logdir)
    newest = next((run for run in runs if run.name != BY_IMAGES), runs[0])
    tags = CURVES if (newest / "record.json").is_file() else ""  # the claims' events are no run's
    if only_newest and (newest.parent / "sweep.json").is_file():
        return {"tags": tags, "runs": f"^{re.escape(newest.parent.relative_to(logdir).as_posix())}/[^/]+$"}
    if only_newest:
        return {"tags": tags, "runs": f"^{re.escape(newest.relative_to(logdir).as_posix())}$"}
    return {"tags": tags, "runs": f"^(?!.*{BY_IMAGES}$)" if any(run.name == BY_IMAGES for run in runs) else ""}


def announce(what: str, address: str, tags: str = "", runs: str = "") -> None:
    """Says where the dashboard is, once it answers there, and opens it where somebody sits at this computer."""
    asked = {"tagFilter": tags, "runFilter": runs, "smoothing": "0"}
    words = "&".join(f"{name}={quote(value, safe='')}" for name, value in asked.items() if value)
    link, where = f"{address}?{words}#timeseries", urlsplit(address)
    tell(f"{what}; Ctrl-C ends it\n{link}")
    if where.hostname in ("localhost", "127.0.0.1", "::1"):
        with contextlib.suppress(KeyError, OSError):  # in a container the user may have no name
            tunnel = f"ssh -L {where.port}:localhost:{where.port} {getpass.getuser()}@{platform.node()}"
            tell(f"from another computer: {tunnel}, then the same address there")
    if has_browser():
        webbrowser.open(link)


def has_browser() -> bool:
    if not sys.stdout.isatty() or {"SSH_CONNECTION", "SSH_TTY"} & os.environ.keys():
        return False
    return sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())


def serve(words: Sequence[str], ready: Callable[[str], None]) -> int:
    """Runs TensorBoard with these words until Ctrl-C. `ready` is called with its address once it answers there."""
    from tensorboard import default, program
    from tensorboard.data.server_ingester import NoDataServerError, get_server_binary
    from tensorboard.plugins.base_plugin import FlagsError
    from tensorboard.plugins.hparams.hparams_plugin import HParamsPlugin

    from dlintro.commands.hparams import ArrangedHParams

    def listening(app: Any, flags: argparse.Namespace) -> "TensorBoardServer":
        server = on_free_port(app, flags)
        server.print_serving_message = lambda: ready(server.get_url())
        return server

    try:
        get_server_binary()
        fast = "true"  # its quick loader; by itself it would use it too, with a notice of ten lines
    except NoDataServerError:
        fast = "false"
    plugins = [ArrangedHParams if plugin is HParamsPlugin else plugin for plugin in default.get_plugins()]
    logging.getLogger("tensorboard").setLevel(logging.WARNING)  # its loader says each of its rounds
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # a terminal that is closed leaves no links behind
        signal.signal(signal.SIGHUP, terminated)
    board, said = program.TensorBoard(plugins=plugins, server_class=listening), io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            board.configure(["tensorboard", "--load_fast", fast, *words])
    except FlagsError as error:
        raise UsageError(f"TensorBoard: {error}") from error
    except SystemExit as error:
        if error.code == 0:  # --helpfull
            return 0
        why = said.getvalue().strip().rpartition("error: ")[2].replace("invalid <lambda> value", "not a number")
        if "invalid choice" in why:
            raise UsageError("name the runs before the options: scripts/tensorboard [RUN ...] [--port N]") from error
        raise UsageError(f"TensorBoard: {why}") from error
    return int(board.main())


def on_free_port(app: Any, flags: argparse.Namespace) -> "TensorBoardServer":
    """TensorBoard's server. The port asked for may be taken; then it is the next free one."""
    from tensorboard import program

    make = program.create_port_scanning_werkzeug_server
    try:
        if not flags.port:
            return make(app, flags)
        for port in range(flags.port, flags.port + NEXT_PORTS):
            with contextlib.suppress(program.TensorBoardPortInUseError):
                return make(app, argparse.Namespace(**vars(flags) | {"port": port}))
    except program.TensorBoardServerException as error:
        raise RunError(error.msg) from error
    except SystemExit as error:  # its web server has said why
        raise RunError(f"--host {flags.host}: nothing can listen there; without it, this computer does") from error
    raise RunError(f"--port {flags.port}: this and the next {NEXT_PORTS - 1} ports are taken; name another one")
