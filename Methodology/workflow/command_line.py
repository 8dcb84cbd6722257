"""The command line: the flags that all acts share, and every end of a script, good or bad, as one line and a status."""
import argparse
import contextlib
import errno
import functools
import math
import os
import re
import signal
import sys
import threading
from pathlib import Path

import joblib

import paper
from workflow.files import BadInput, escaped, one_line

ROOT = Path(__file__).resolve().parents[2]
INTERRUPTED = "interrupted: the same command goes on from here"
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space there"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file stands where a folder should"),
    errno.EACCES: "choose a folder you may use", errno.EROFS: "choose a folder you may write to",
    errno.EISDIR: "a folder stands where a file should: delete it, or move it away",
}


class Escaped:
    """A stream in which the words of others, such as names of files, cannot command the terminal."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text):
        return self.stream.write(escaped(text, but="\n\r\t"))

    def __getattr__(self, name):
        return getattr(self.stream, name)


class Terminated(KeyboardInterrupt):
    """SIGTERM, which a batch system sends at the end of the time."""


class Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The docstring as it is, and the default of every flag."""


def parse(doc, argv, add_arguments=None):
    """Parse the flags that all acts share and those that add_arguments(what, how_much, where) adds; print the options.

    Those three are the groups of flags that --help shows, below `doc`, the act's docstring.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=Help)
    what, how_much, where = map(parser.add_argument_group, ("what is computed", "how much", "where it runs"))
    add_run(what)
    how_much.add_argument("--budget", choices=paper.BUDGETS, default="paper", help="how much to compute")
    where.add_argument("--jobs", type=number(int, 1), default=cores(), metavar="N",
                       help="units side by side, one thread each")
    where.add_argument("--scheduler", metavar="tcp://HOST:PORT",
                       help="of a Dask cluster that does the units instead of this machine")
    add_seed(what, "of weights and batch order")
    how_much.add_argument("--only", type=int, nargs="+", metavar="I",
                          help="only these autoencoders (or grid combinations)")
    how_much.add_argument("--overwrite", action="store_true", help="redo what is done or stale")
    how_much.add_argument("--dry-run", action="store_true", help="say what there is to do, and stop")
    if add_arguments:
        add_arguments(what, how_much, where)
    args = parser.parse_args(argv)
    if args.scheduler:  # its workers have another current folder
        args.data, args.artifacts = args.data.absolute(), args.artifacts.absolute()
    for name, value in vars(args).items():
        print(f"{name:>14}  {value}")
    args.budget = paper.BUDGETS[args.budget]
    return args


def add_seed(parser, what):
    """Add the flag of the seed; `what` it is of."""
    parser.add_argument("--seed", type=number(int, 0, 2**30), default=paper.SPLIT_SEED, metavar="N", help=what)


def add_stack(parser, what):
    """Add the flag by which several units are trained as one network; `what` they are."""
    parser.add_argument("--stack", type=number(int, 1), default=1, metavar="N",
                        help=f"train N {what} as one network: for a GPU, with --jobs 1; a processor is faster without")


def add_run(parser):
    """Add the flags that name a run."""
    add = parser.add_argument
    add("--data", type=folder, default=ROOT / "src_files", metavar="DIR", help="folder of the spectra of the run")
    add("--artifacts", type=folder, default=ROOT / "artifacts", metavar="DIR", help="folder of the run's results")


def cores():
    """How many processor cores this process may use."""
    try:
        return joblib.cpu_count()
    except (ValueError, OSError):  # some containers leave /sys/fs/cgroup/cpu.max empty
        return os.cpu_count() or 1


def number(kind, low, high=float("inf")):
    """Type of a flag: a finite int or float from `low` to `high`."""

    def checked(text):
        value = kind(text)
        if not (low <= value <= high and math.isfinite(value)):
            raise argparse.ArgumentTypeError(f"{text} is not between {low} and {high}, or not finite")
        return value

    checked.__name__ = kind.__name__  # argparse names it when the text is no number
    return checked


def folder(text):
    """Type of a flag: a folder, which need not exist."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: name a folder")
    if Path(text).exists() and not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file: name a folder")
    return Path(text)


def address(text):
    """Type of a flag: an address on the web."""
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} does not begin with http:// or https://")
    return text.rstrip("/")


def command(main):
    """Turn BadInput, a failing disk, Ctrl-C or SIGTERM, anywhere below `main`, into one line and an exit status."""

    @functools.wraps(main)
    def wrapped(argv=None):
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed, as by >&-
                setattr(sys, name, open(os.devnull, "w"))
            if hasattr(getattr(sys, name), "reconfigure"):  # a star's name may have letters that the terminal lacks
                getattr(sys, name).reconfigure(errors="backslashreplace")
        try:
            with _interruptible(), contextlib.redirect_stdout(Escaped(sys.stdout)):
                main(argv)
                sys.stdout.flush()
            return 0
        except BrokenPipeError:  # nobody reads on, as behind `| head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except BadInput as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            return 2
        except OSError as error:
            remedy = REMEDIES.get(error.errno)
            text = re.sub(r"\.partial-[0-9a-f]{12}-\d+-[0-9a-f]{6}", "", one_line(error))  # the name it was to get
            print(f"error: {text}" + f": {remedy}" * bool(remedy), file=sys.stderr)
            return 2
        except KeyboardInterrupt as error:
            print(INTERRUPTED, file=sys.stderr)
            return 143 if isinstance(error, Terminated) else 130

    return wrapped


def _not_even_begun(kind, error, where):
    """What Python calls of an error that nobody caught: Ctrl-C, while libraries are imported, is none to be traced."""
    if issubclass(kind, KeyboardInterrupt):
        print(INTERRUPTED, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, where)


sys.excepthook = _not_even_begun


@contextlib.contextmanager
def _interruptible():
    """Let SIGTERM end what is under way as Ctrl-C does, and let neither interrupt the tidying up after the other."""

    def interrupt(number, _):
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # once is enough
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.signal(name, interrupt) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
