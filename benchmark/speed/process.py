"""Time a command as a whole process: cold start, wall clock and peak memory.

What a user waits for is the process, not the network, so the benchmarks compare
commands. Needs ``os.wait4`` (Linux, macOS).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def measure(command, runs=5, env=None, warmup=0):
    """Run a command several times and summarise what it cost.

    Parameters
    ----------
    command : list of str
        Program and arguments; its stdout is discarded.
    runs : int
        Runs that count.
    env : dict of str to str, optional
        Variables set on top of the present environment.
    warmup : int
        Runs before those, which fill the file cache and do not count.

    Returns
    -------
    dict
        ``wall_s``, ``cpu_s`` and ``peak_mb`` each with ``median``, ``min`` and
        ``max``; ``runs`` (wall seconds in order); ``exit_code`` (the first that
        is not 0, else 0); ``stderr`` (the last lines of that run).

    Notes
    -----
    ``peak_mb`` is the resident set (1 MB = 1e6 bytes) of the largest single
    process: the command itself or one of the children that it waited for.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, not {runs}")
    for _ in range(warmup):
        _run_once(command, env)
    return _summary([_run_once(command, env) for _ in range(runs)])


def paired(command_a, command_b, runs=5, env=None, warmup=0):
    """Run two commands in turn (A B A B ...), so that load on the machine hits both.

    Parameters
    ----------
    command_a, command_b : list of str
        As for :func:`measure`.
    runs : int
        Pairs that count.
    env, warmup
        As for :func:`measure`; one warm-up is one pair.

    Returns
    -------
    dict
        ``a`` and ``b`` (see :func:`measure`), ``ratio`` (median wall seconds of A
        over that of B: above 1, B is faster) and ``pair_ratios`` (A/B, in order).

    Raises
    ------
    RuntimeError
        A command failed: the time of a crash is not a result.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, not {runs}")
    records = {"a": [], "b": []}
    for number in range(warmup + runs):
        for key, command in (("a", command_a), ("b", command_b)):
            record = _run_once(command, env)
            if record["exit_code"]:
                raise RuntimeError(f"{command[0]} ended with {record['exit_code']}: {record['stderr']}")
            if number >= warmup:
                records[key].append(record)
    a, b = _summary(records["a"]), _summary(records["b"])
    return {
        "a": a,
        "b": b,
        "ratio": a["wall_s"]["median"] / b["wall_s"]["median"],
        "pair_ratios": [x / y for x, y in zip(a["runs"], b["runs"], strict=True)],
    }


def _run_once(command, env):
    # The kernel lets a child inherit the peak memory of the process that started
    # it, so a small supervisor starts the command: the caller may be large.
    supervisor = [sys.executable, "-I", "-S", str(Path(__file__).resolve()), json.dumps(command)]
    done = subprocess.run(
        supervisor,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} could not be started: {done.stderr.strip()[-400:]}")
    return json.loads(done.stdout)


def _supervise(command):
    with tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors)
        _, status, usage = os.wait4(child.pid, 0)
        wall_s = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 2000))
        tail = errors.read().decode(errors="replace").strip()
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "wall_s": wall_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss * unit / 1e6,
        "exit_code": child.returncode,
        "stderr": tail,
    }


def _summary(records):
    failed = [record for record in records if record["exit_code"] != 0]
    summary = {key: _spread([r[key] for r in records]) for key in ("wall_s", "cpu_s", "peak_mb")}
    summary["runs"] = [record["wall_s"] for record in records]
    summary["exit_code"] = failed[0]["exit_code"] if failed else 0
    summary["stderr"] = failed[0]["stderr"] if failed else ""
    return summary


def _spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


if __name__ == "__main__":
    print(json.dumps(_supervise(json.loads(sys.argv[1]))))
