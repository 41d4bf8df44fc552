"""The error hierarchy: everything a user can mend is a :class:`UserError`.

The text of a ``UserError`` is one line that names the file or option, says what
is wrong with it and what to do. The commands print it without a traceback.
"""


class UserError(Exception):
    """Something the user can mend; the message says what, where and how."""


class UsageError(UserError):
    """The command or call itself cannot be carried out (bad option or combination)."""


class InputError(UserError):
    """One input file cannot be used; other inputs of the same run are unaffected."""


class OutputError(UserError):
    """An output cannot be written (folder read-only, name taken, disk full)."""


class ModelError(UserError):
    """A model entry or its weights cannot be found, verified, read or run."""


class DeviceError(UserError):
    """The requested device cannot be used."""


class DownloadError(UserError):
    """A file cannot be obtained, or what arrived is not what the manifest names."""
