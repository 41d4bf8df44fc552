"""A real scheduler with real workers on loopback."""

import contextlib
import json
import os
import signal
import subprocess
import sys

from batch_helpers import wait_for


@contextlib.contextmanager
def cluster(folder, workers, **settings):
    """A scheduler and workers, as processes of their own: the scheduler's address."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **settings}
    folder.mkdir()
    file, started = folder / "scheduler.json", []

    def run(name, *argv):
        log = open(folder / f"{name}.log", "w")  # noqa: SIM115
        line = [sys.executable, "-m", f"distributed.cli.dask_{name.rstrip('0123456789')}", "--no-dashboard", *argv]
        started.append(subprocess.Popen(line, env=env, stdout=log, stderr=log, cwd=folder, start_new_session=True))

    try:
        run("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        wait_for(file.exists)
        for number in range(workers):
            run(f"worker{number}", "--scheduler-file", str(file), "--nthreads", "1", "--host", "127.0.0.1")
        yield wait_for(lambda: json.loads(file.read_text()))["address"]
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
