"""A Dask cluster on this machine, for the tests of commands that take --scheduler."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import cnn_training

METHODOLOGY = Path(cnn_training.__file__).parent


@pytest.fixture
def cluster(tmp_path):
    """Address of a Dask scheduler on this machine and, by address, its two worker processes."""
    distributed = pytest.importorskip("distributed")
    note = tmp_path / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": str(METHODOLOGY)}

    def dask(*words):
        command = [sys.executable, "-m", "dask", *words, "--scheduler-file", note, "--no-dashboard"]
        return subprocess.Popen(list(map(str, command)), env=environment, cwd=tmp_path,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    started = [dask("scheduler", "--host", "127.0.0.1", "--port", 0)]
    try:
        started += [dask("worker", "--nthreads", 1, "--no-nanny", "--name", name) for name in ("one", "two")]
        with distributed.Client(scheduler_file=note, timeout=60) as client:
            client.wait_for_workers(2, timeout=60)
            named = {worker["name"]: address for address, worker in client.scheduler_info()["workers"].items()}
        yield json.loads(note.read_text())["address"], {named["one"]: started[1], named["two"]: started[2]}
    finally:
        for process in started:
            process.kill()
            process.wait()
