"""What the tests of many scans share: small data sets, and the command in a process of its own."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np


def make_bids(folder, small, subjects):
    """A BIDS data set: each subject has the small scan, shifted in intensity so that no two files are equal."""
    image = nib.load(small)
    for number, subject in enumerate(subjects):
        place = Path(folder) / f"sub-{subject}" / "anat"
        place.mkdir(parents=True)
        data = np.asanyarray(image.dataobj) + number
        nib.save(nib.Nifti1Image(data, image.affine, image.header), place / f"sub-{subject}_T2starw.nii.gz")
    (Path(folder) / "dataset_description.json").write_text('{"Name": "tiny", "BIDSVersion": "1.9.0"}')
    return Path(folder)


def scan_of(folder, subject):
    return Path(folder) / f"sub-{subject}" / "anat" / f"sub-{subject}_T2starw.nii.gz"


def fifo(folder, subject):
    """A scan that hangs whoever opens it."""
    path = scan_of(folder, subject)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    return path


def record(out, subject):
    return json.loads((Path(out) / f"sub-{subject}" / "anat" / f"sub-{subject}_T2starw_deepseg.json").read_text())


def masks(out):
    """Bytes of every mask and area table below a folder."""
    found = {}
    for path in sorted(Path(out).rglob("sub-*")):
        if path.name.endswith((".nii.gz", "_csa.csv")):
            found[path.name] = path.read_bytes()
    return found


def rows(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def start(*argv, **env):
    """The command in a process group of its own, as a shell starts it."""
    line = [sys.executable, "-m", "sctseg7t.cli.batch", *map(str, argv), "-device", "cpu"]
    return subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
        start_new_session=True,
        # A shell's background jobs ignore the signal, and their children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition, seconds=120):
    """Wait until the condition gives something, and return that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def worker_of(out, subject):
    """Process that works on a scan, as the scan's log tells; None before it has begun."""
    log = Path(out) / "logs" / f"sub-{subject}_T2starw.log"
    text = log.read_text() if log.exists() else ""
    return int(text.partition("process ")[2].partition(",")[0]) if "process" in text else None
