"""Units of work on a Dask cluster, whose workers must have this code and these libraries."""
import importlib.util
import logging
from concurrent.futures import CancelledError
from pathlib import Path

from workflow.files import BadInput, sweep
from workflow.units import CODE, versions

CONNECT = 10  # [s] that a Dask scheduler may take to answer


def compute(address, do, work, groups, progress, overwrite):
    """What `do` returns for every group of units, a list; the cluster gives those of a worker that dies to another."""
    try:
        from distributed import Client, KilledWorker
    except ImportError:
        raise BadInput("--scheduler needs Dask: pip install -r requirements-cluster.txt") from None
    for name in ("distributed", "asyncio"):  # they would add pages to the one line below
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=CONNECT)
    except (OSError, ValueError) as error:
        raise BadInput(f"--scheduler {address}: no Dask scheduler answers there ({error})") from None
    with client:
        _check(client, address)
        futures = [client.submit(do, work, group, progress, overwrite, pure=False) for group in groups]
        try:
            done = client.gather(futures)
            client.run(sweep, progress.parent)
        except KilledWorker as error:
            raise BadInput(f"--scheduler {address}: {error}: give its workers more memory, then run again") from None
        except CancelledError:
            raise BadInput(f"--scheduler {address}: it went away: the same command goes on from here") from None
        return done


def _check(client, address):
    """Refuse a cluster that cannot do the work, or would do it otherwise than this machine."""
    workers = client.nthreads()
    if not workers:
        raise BadInput(f"--scheduler {address}: it has no workers yet: start some with `dask worker {address}`")
    if any(threads > 1 for threads in workers.values()):  # Keras has one session a process
        raise BadInput(f"--scheduler {address}: start its workers with --nthreads 1")
    specs = client.run(importlib.util.find_spec, "workflow.units", on_error="return")  # not of a folder of any name
    try:
        specs["the scheduler"] = client.run_on_scheduler(importlib.util.find_spec, "workflow.units")
    except ImportError as error:
        specs["the scheduler"] = error
    remedy = f"start scheduler and workers with PYTHONPATH={Path(__file__).parents[1]} and this Python environment"
    if without := [name for name, spec in specs.items() if spec is None or isinstance(spec, Exception)]:
        raise BadInput(f"--scheduler {address}: {', '.join(without)} cannot import this project: {remedy}")
    if differing := [name for name, theirs in client.run(_identity).items() if theirs != _identity()]:
        raise BadInput(f"--scheduler {address}: {', '.join(differing)} has other code or libraries than here: {remedy}")


def _identity():
    return CODE, versions()
