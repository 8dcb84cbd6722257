"""What tests of scripts need of the machine: a disk that is too small, a server on this side of the network."""
import contextlib
import shutil
import subprocess
import threading

import pytest


def mounted(options, folder):
    """A prefix that runs a command with a small memory disk at `folder`, where that is allowed."""
    if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode:
        pytest.skip("no mounts are allowed here")
    script = 'mount -t tmpfs -o "$1" none "$2" && shift 2 && exec "$@"'
    return ["unshare", "-rm", "sh", "-c", script, "sh", options, str(folder)]


@contextlib.contextmanager
def serving(httpd):
    """Let a server answer until the block ends."""
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield
    httpd.shutdown()
    thread.join()
    httpd.server_close()
