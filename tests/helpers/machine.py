"""What tests of scripts need of the machine: a disk that is too small, a server on this side of the network."""
import contextlib
import os
import resource
import shutil
import signal
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


def no_larger_than(n_bytes):
    """What a process does before it begins, so that no file of it becomes larger, as on a full disk."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def unprivileged(folder):
    """A prefix that runs a command as one who may not write in `folder`."""
    folder.chmod(0o500)
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root may write anywhere")
    return ["setpriv", "--bounding-set=-all"]


@contextlib.contextmanager
def losing_a_worker(address, workers):
    """Kill one of the `workers` of a Dask cluster, by address, as soon as it is at work; give its process."""
    from distributed import Client

    victim, process = next(iter(workers.items()))
    with Client(address) as client, _as_soon_as(lambda: client.processing([victim])[victim], process.kill):
        yield process


@contextlib.contextmanager
def losing_the_scheduler(address, begun):
    """Kill the scheduler of a Dask cluster on this machine as soon as begun() says so."""
    from distributed import Client

    with Client(address) as client:
        number = client.run_on_scheduler(os.getpid)
    with _as_soon_as(begun, lambda: os.kill(number, signal.SIGKILL)):
        yield


@contextlib.contextmanager
def _as_soon_as(begun, kill):
    """Call kill() once, as soon as begun() says so, while the block runs."""
    ended = threading.Event()

    def watch():
        while not ended.wait(0.01):
            if begun():
                return kill()

    killer = threading.Thread(target=watch)
    killer.start()
    try:
        yield
    finally:
        ended.set()
        killer.join()
