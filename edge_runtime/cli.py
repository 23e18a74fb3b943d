"""Command line ``edge-unet``: parse arguments, turn errors into exit codes, import nothing heavy before a command."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from edge_runtime.commands.standard_streams import discard_stdout, repair_standard_streams
from edge_runtime.errors import EdgeUnetError, InputError, StorageError, UsageError
from edge_runtime.errors.installation import import_problem, installed_version
from edge_runtime.storage import os_problem, printable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Handler = Callable[[argparse.Namespace], int]
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_EPILOG = """\
from images and masks to a segmented camera:
  edge-unet data check my-data
  edge-unet train my-data --out runs/first
  edge-unet export runs/first --out models/first
  edge-unet run models/first --source 0 --show

exit codes:
  0 ok   2 usage   3 input data   4 model refused   5 quality gate   6 storage   7 source   8 training diverged
"""


_COMMANDS = {"run": "run", "eval": "evaluate", "bench": "bench", "tune": "tune", "info": "info", "doctor": "doctor"}
"""Module in ``edge_runtime.commands`` of each command of the runtime."""
_GROUP = "edge_unet.commands"
"""Group of entry points, each of which adds the command of its name."""
_ORDER = {"data": 0, "train": 1, "export": 2, "demo": 3}


class Terminated(BaseException):
    """Raised when SIGTERM or SIGHUP arrives, so that the stack unwinds and files are finished and closed.

    Attributes:
        signal_number: Number of the signal.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


class _WrongUsage(SystemExit):
    """Raised where argparse would exit; the usage and the message are already on stderr."""

    def __init__(self, message: str) -> None:
        super().__init__(UsageError.exit_code)
        self.message = message


class _Version(argparse.Action):
    """Print the version, which is looked up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, **more: Any) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=more["help"])

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        print(f"edge-unet {installed_version()}", flush=True)
        parser.exit()


class _Parser(argparse.ArgumentParser):
    def print_help(self, file: Any = None) -> None:
        print(self.format_help(), end="", file=file, flush=True)  # argparse hides that it cannot be written

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        print(f"{self.prog}: error: {message}", file=sys.stderr)
        raise _WrongUsage(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; an error becomes one line on stderr.

    With ``--json``, the error is also the one object on stdout. A command may set ``json_of_failure`` beside its
    handler: a function of the arguments and the error that returns keys to add to the object.

    Args:
        argv: Arguments without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    command = next((a for a in arguments if a[:1] != "-"), None)
    # OpenCV reads it when it is loaded. Its log says less than our errors and may contain the password of an address.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    try:
        try:
            args = build_parser(command).parse_args(arguments)
        except UsageError as refused:  # another project's package is in the way of a command
            print(f"edge-unet: {refused}", file=sys.stderr)
            return refused.exit_code
        except _WrongUsage as wrong:
            # `run --json FILE` writes lines, and has written none yet.
            if "--json" in arguments and command != "run":
                try:
                    print(_failure(UsageError(wrong.message)), flush=True)
                except OSError:
                    discard_stdout()
            raise
        code = _handled(args, debug=debug)
        try:
            sys.stdout.flush()  # here a closed pipe is handled; at the interpreter's exit it would not be
        except OSError:
            if code == 0:
                raise
            discard_stdout()  # the first error has been told
        return code
    except BrokenPipeError:
        # The reader of stdout has closed the pipe (`edge-unet run … | head`). Python must not report that at exit.
        discard_stdout()
        return 0
    except OSError as cause:  # of stdout: those of a handler are caught there
        discard_stdout()
        error = StorageError(f"cannot write standard output — {os_problem(cause)}")
        print(f"edge-unet: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Terminated as terminated:
        return 128 + terminated.signal_number


def run_and_exit() -> NoReturn:
    """Run the command line as a program: install signal handlers, run the command, and exit with its code."""
    repair_standard_streams()
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _terminate)
    # SIGHUP means that the terminal was closed. Under `nohup` it is ignored, and stays so. Windows does not have it.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)
    try:
        code = main()
    except Exception:  # of any class: native code that a signal interrupts reports another error, or none
        if not _received:
            raise
        code = 0
    if _received and code == 0:
        code = 128 + _received[0][0]
    if sys.getprofile() is not None or sys.gettrace() is not None:
        sys.exit(code)  # a profiler writes its result at exit
    # All files are finished. The interpreter is not torn down: that takes 30 ms, and a thread that is stuck in native
    # code, such as a camera driver, would crash the process if it woke up meanwhile.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line.

    Args:
        command: The command that will be parsed: if it is one of the runtime, only its module is imported. None: all
            commands, as ``--help`` lists them.
    """
    parser = _Parser(
        prog="edge-unet",
        description="Train a U-Net on your own images, ship one ONNX package, segment camera frames on a CPU.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, help="show the version and exit")
    parser.add_argument(
        "--debug", action="store_true", help="show the traceback of an error; also accepted after a command"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    if command not in _COMMANDS:
        from importlib.metadata import entry_points  # 20 ms, which the runtime's commands do not need

        # In the order of use: data, train, export, demo.
        for entry in sorted(entry_points(group=_GROUP), key=lambda e: _ORDER.get(e.name, len(_ORDER))):
            try:
                register = _loaded(entry)
            except ModuleNotFoundError as cause:
                if cause.name != entry.module.partition(".")[0]:
                    raise
                continue  # the runtime alone, as on a device or frozen into a program
            register(commands)
    for name, module in _COMMANDS.items():
        if command == name or command not in _COMMANDS:
            importlib.import_module(f"edge_runtime.commands.{module}").register(commands)
    return parser


def require_modules(command: str, modules: Sequence[str]) -> None:
    """Raise an error that names the extra to install if a module that a command needs is missing.

    Args:
        command: The command as typed, without "edge-unet".
        modules: Import names of the modules.

    Raises:
        UsageError: A module cannot be found.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"{command} — {', '.join(missing)} not installed — it needs the extra 'train' — "
            "in a checkout of the project: pip install '.[train]'"
        )


@contextmanager
def quiet_native_logs() -> Iterator[None]:
    """Discard what native libraries write to stderr inside the block; errors are still raised as exceptions.

    While it loads, TensorFlow logs about GPUs and instruction sets, partly before its own log level takes effect.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _loaded(entry: EntryPoint) -> Callable[[Any], None]:
    """Load the function of an entry point.

    Our own packages are loaded from the folder in which this one lies. Their names are common, so that the first
    ``training`` on ``sys.path`` may be another project's, which must be neither executed nor mistaken for ours.

    Raises:
        UsageError: This process has already loaded another package of this name.
    """
    name = entry.module.partition(".")[0]
    folder = Path(__file__).parents[1] / name
    if entry.dist is not None and entry.dist.name == "edge-unet" and (folder / "__init__.py").is_file():
        present = sys.modules.get(name)
        if present is None:
            spec = importlib.util.spec_from_file_location(
                name, folder / "__init__.py", submodule_search_locations=[str(folder)]
            )
            if spec is None or spec.loader is None:
                raise ImportError(f"{folder} cannot be loaded")
            sys.modules[name] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(sys.modules[name])
            except BaseException:
                del sys.modules[name]
                raise
        elif list(getattr(present, "__path__", [])) != [str(folder)]:
            raise UsageError(
                f"package '{name}' — this process has loaded another one of this name ({present.__file__}) — run "
                "edge-unet in a process of its own"
            )
    register: Callable[[Any], None] = entry.load()
    return register


def _handled(args: argparse.Namespace, *, debug: bool) -> int:
    handler: Handler = args.handler
    try:
        with _translated():
            return handler(args)
    except EdgeUnetError as error:
        if getattr(args, "json", None) is True:  # of `run` it is the name of a file
            more = args.json_of_failure(args, error) if "json_of_failure" in args else {}
            with contextlib.suppress(OSError):  # stdout may be what failed
                print(_failure(error, more))
        if debug:
            raise
        print(f"edge-unet: {error}", file=sys.stderr)
        return error.exit_code


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the errors of the system and of the installation that nobody has caught into ours, of one line each."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as cause:
        # What is written is translated where it is written, except for stdout, whose errors name no file.
        if cause.filename is not None:
            raise InputError(f"cannot read {printable(cause.filename)} — {os_problem(cause)}") from cause
        raise StorageError(f"cannot write standard output — {os_problem(cause)}") from cause
    except ImportError as cause:
        if _received:  # while a library was loaded, which then reports that it cannot be
            raise Terminated(_received[0][0]) from cause
        raise UsageError(import_problem(cause)) from cause
    except (MemoryError, RuntimeError) as cause:
        # Python has no class of its own for a thread that the limits of the process do not allow.
        if isinstance(cause, RuntimeError) and "can't start new thread" not in str(cause):
            raise
        raise UsageError(
            f"memory — {str(cause) or 'not enough'} — raise the limits of this process, use smaller pictures, or --threads 1"
        ) from cause


def _failure(error: EdgeUnetError, more: Mapping[str, Any] | None = None) -> str:
    """Return the object that ``--json`` prints in place of the result."""
    told = {"exit_code": error.exit_code, "message": str(error)}
    return json.dumps({"ok": False, "error": told, **(more or {})}, allow_nan=False)


_received: list[tuple[int, float]] = []
"""Number and time of the signals that were to end the process."""
_ONE_STOP_S = 1.0
"""Signals within this time are one wish to stop, as Ctrl-C in a terminal and SIGTERM from a parent that it also ended."""


def _terminate(signal_number: int, _frame: FrameType | None) -> None:
    now = time.monotonic()
    if _received and now < _received[-1][1] + _ONE_STOP_S:
        return
    _received.append((signal_number, now))
    raise KeyboardInterrupt if signal_number == signal.SIGINT else Terminated(signal_number)
