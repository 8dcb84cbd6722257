"""Progress of what takes long: a bar on a terminal, a line a minute in a file."""
import sys

from tqdm import tqdm

MINUTE = 60  # [s] between two lines


class _Lines:
    """What tqdm writes to, with a line for every state of its bar."""

    def write(self, text):
        if text.strip():
            sys.stderr.write(f"{text.strip()}\n")

    def flush(self):
        sys.stderr.flush()


def progress_bar(*args, **options):
    """A tqdm bar on a terminal; elsewhere it leaves a line a minute, and none of what takes less."""
    if not sys.stderr.isatty():
        options.update(file=_Lines(), mininterval=MINUTE, maxinterval=MINUTE, delay=MINUTE)
    return tqdm(*args, **options)
