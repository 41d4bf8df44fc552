"""The commands: one module each, installed as ``sctseg7t.cli``.

Each module has ``parser()``, ``main(argv)``, which returns the exit code, and ``command()``, which ends the process.
Imports among them are relative: the folder lies at the top of the checkout, where tools that read the tree find it.
"""

import os

# The matrix products are small: to wake threads of numpy for them takes longer than the networks.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

COMMANDS = (
    "batch",
    "compare",
    "deepseg",
    "download",
    "explain",
    "measure",
    "prepare",
    "qc",
    "simulate",
    "study",
    "train",
)
