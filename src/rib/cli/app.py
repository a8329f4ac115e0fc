"""The command `rib`: its commands, its exit codes, and its error messages."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from rib.cli import compare, data, listing, report, run, store, study, suite
from rib.cli.collector import pause_collector
from rib.cli.options import WholeHelp
from rib.errors import RibError, StoppedError, UserError
from rib.text.terminal import finish_streams, prepare_streams, say

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT."""

CLOSED_PIPE = 141
"""Exit code if the reader of standard output is gone: 128 + SIGPIPE, as in shells."""


def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        import rib

        print(rib.__version__)
        raise typer.Exit


def _group(words: str, **commands: Any) -> typer.Typer:
    made = typer.Typer(cls=WholeHelp, help=words, no_args_is_help=True)
    for name, function in commands.items():
        made.command(name)(function)
    return made


app = typer.Typer(
    name="rib",
    cls=WholeHelp,
    help="Measure how much robustness survives fine-tuning. Start with: rib run",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.callback(invoke_without_command=True)(_root)
app.command("run")(run.run)
app.command("plan")(run.show_plan)
app.command("status")(run.status)
app.command("report")(report.report)
app.command("export")(report.export)
app.command("verify")(report.verify)
app.command("recommend")(report.recommend)
app.command("compare")(compare.compare)
app.command("study")(study.study)
app.add_typer(
    _group("Write a suite file for a folder of data sets, or explain one.", new=suite.new, check=suite.check),
    name="suite",
)
app.add_typer(
    _group(
        "List the names that a suite can use.",
        suites=listing.list_suites,
        data=listing.list_data,
        models=listing.list_models,
        methods=listing.list_methods,
        objectives=listing.list_objectives,
        analyses=listing.list_analyses,
        studies=listing.list_studies,
    ),
    name="list",
)
app.add_typer(
    _group(
        "Check, decode or corrupt data before a run.",
        check=data.data_check,
        fetch=data.data_fetch,
        pack=data.data_pack,
        corrupt=data.data_corrupt,
    ),
    name="data",
)
app.add_typer(store.store_app, name="store")


def main() -> NoReturn:
    """Run the command and exit: 0 done, 1 a step failed, 2 a mistake of the user, 130 interrupted, 141 a closed
    pipe."""
    atexit.register(gc.freeze)  # otherwise a last garbage collection over torch's objects takes a third of a second
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # libraries download nothing unless the user sets HF_HUB_OFFLINE=0
    prepare_streams()
    pause_collector(sys.argv[1:])
    try:
        code = _finished()
    except BrokenPipeError:
        code = CLOSED_PIPE
    except KeyboardInterrupt:  # a second Ctrl-C, while the first was reported
        code = INTERRUPTED
    if code == INTERRUPTED:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the rest takes a moment
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # the last registered is called first
    sys.exit(code if finish_streams() or code else CLOSED_PIPE)


def _finished() -> int:
    """Run the command and return its exit code; print errors on standard error."""
    try:
        _require_folder()
        code: int = app(standalone_mode=False) or 0  # the code of typer.Exit
        sys.stdout.flush()
    except SystemExit as error:  # click's own, for a pipe that nobody reads
        raise error.__context__ if isinstance(error.__context__, BrokenPipeError) else error from None
    except typer.Abort:
        return 130
    except KeyboardInterrupt:
        return _said("interrupted; finished steps are kept", 130)
    except UserError as error:
        return _said(f"error: {error}", 2)
    except StoppedError as error:
        return _said(str(error), 130)
    except RibError as error:
        return _said(f"error: {error}", 1)
    except BrokenPipeError:
        raise
    except OSError as error:
        return _system_or_raise(error)
    except Exception as error:
        return _usage_or_raise(error)
    return code


def _require_folder() -> None:
    """Refuse a working folder that no longer exists, because libraries cannot be loaded from it. Raises UserError."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("the working folder was removed", remedy="cd to a folder that is there") from None


def _said(words: str, code: int) -> int:
    say(words)
    return code


def _system_or_raise(error: OSError) -> int:
    """Print the system's message about a file, or raise the error again. Only errors of files are no bugs."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is None:
        return _said(f"error: cannot write to standard output: {error.strerror}", 1)
    if error.filename is None or error.strerror is None:
        raise error
    return _said(f"error: {error.filename}: {error.strerror}", 2)


def _usage_or_raise(error: Exception) -> int:
    """Print Typer's own errors about arguments, which are mistakes of the user; raise other errors again. (Typer has
    its own click.)"""
    show = getattr(error, "show", None)
    if show is None:
        raise error
    show()
    return 2
