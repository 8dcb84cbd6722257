"""Progress: a bar on a terminal, whole lines in a file, and few of them."""
import io
import sys

import pytest

from workflow import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("stream", "minute", "begins"), [
    (Terminal(), 60, "\rabc:   0%"), (io.StringIO(), 0, "abc:   0%"), (io.StringIO(), 60, None)])
def test_bar_on_a_terminal_lines_in_a_file(stream, minute, begins, monkeypatch):
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress, "MINUTE", minute)
    assert list(progress.progress_bar(range(30), desc="abc")) == list(range(30))
    written = stream.getvalue()
    if begins is None:  # done sooner than in a minute
        assert not written
        return
    assert written.startswith(begins) and "30/30" in written and ("\r" in written) == stream.isatty()
    if not stream.isatty():
        assert all(line.startswith("abc: ") for line in written.splitlines()) and written.endswith("\n")
