"""The commands: one module each, installed as ``sctseg7t.cli``.

Each module has ``parser()``, ``main(argv)``, which returns the exit code, and ``command()``, which ends the process.
Imports among them are relative: the folder lies at the top of the checkout, where tools that read the tree find it.
"""

COMMANDS = ("batch", "compare", "deepseg", "download", "prepare", "qc", "simulate", "train")
