"""The commands: one module each, installed as ``sctseg7t.cli``.

Each module has ``parser()``, ``main(argv)``, which returns the exit code, and ``command()``, which ends the process.
"""

COMMANDS = ("batch", "compare", "deepseg", "download", "prepare", "qc", "simulate", "train")
