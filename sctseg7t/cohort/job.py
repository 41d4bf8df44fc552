"""What a worker is given for one scan, and the little that it gives back."""

from dataclasses import dataclass, field
from pathlib import Path

from sctseg7t.errors import UsageError
from sctseg7t.outputs import Plan, identity, split_name


@dataclass(frozen=True)
class Settings:
    """How to open the model; the same for all scans of a run.

    Attributes
    ----------
    task, model, device, options, threads, offline
        As for :func:`sctseg7t.pipeline.open_segmenter`.
    models : tuple of dict
        Identity of the networks that the run was planned with; a worker with others refuses.
    """

    task: str
    model: str | None
    device: str
    options: object
    threads: int | None
    offline: bool
    models: tuple = ()

    def cache_key(self):
        """Equal for settings that one open model serves."""
        return repr((self.task, self.model, self.device, self.options, self.threads, self.offline))


@dataclass(frozen=True)
class Job:
    """One scan to be segmented.

    Attributes
    ----------
    name : str
    label : str
        The scan's path within the data set, for tables.
    plan : Plan
        Absolute paths.
    entities : dict
    settings : Settings
    options : dict
        All that was asked for, as plain values.
    log : Path
    replaced : Path
        Folder for outputs that somebody changed and that must make way.
    run_id : str
        Tells this run's records from those of earlier ones.
    labels : dict of str to Path
        Files that go with the scan, by the option that named them: levels, centerline, brainmask.
    notes : tuple of str
        Warnings known before the scan is opened.
    bids : bool
        Write BIDS metadata beside the masks.
    force : bool
    timeout : float or None
        Seconds.
    upcoming : Path or None
        The scan to read meanwhile.
    """

    name: str
    label: str
    plan: Plan
    entities: dict
    settings: Settings
    options: dict
    log: Path
    replaced: Path
    run_id: str
    labels: dict = field(default_factory=dict)
    notes: tuple = ()
    bids: bool = False
    force: bool = False
    timeout: float | None = None
    upcoming: Path | None = None

    @property
    def models(self):
        """Identity of the networks."""
        return list(self.settings.models)

    def inputs(self):
        """Files that the outputs depend on, by role."""
        return {"scan": self.plan.source, **self.labels}


@dataclass(frozen=True)
class Outcome:
    """What became of one scan, in few bytes.

    Attributes
    ----------
    status : str
        ``ok``, ``done`` (was up to date), ``failed``, or ``fatal``: the run itself cannot go on.
    error, error_kind : str or None
        As in the record.
    warnings : int
    seconds : float
    notes : tuple of str
        What the user should be told at once.
    """

    status: str
    error: str | None = None
    error_kind: str | None = None
    warnings: int = 0
    seconds: float = 0.0
    notes: tuple = field(default=())


def models_of(spec, locator_spec):
    """Identity of the networks of a run."""
    return tuple(identity(item) for item in (spec, locator_spec) if item)


def label_file(template, scan, root):
    """The label file that a template names for a scan.

    Parameters
    ----------
    template : str
        A path within the data set with ``{folder}``, ``{stem}``, ``{sub}``, ``{ses}`` in it, such as
        ``derivatives/labels/{folder}/{stem}_levels.nii.gz``.
    scan : Scan
    root : path
        Of the data set.

    Returns
    -------
    Path

    Raises
    ------
    UsageError
        Unknown field in the template.
    """
    relative = Path(scan.relative)
    values = {"sub": "", "ses": "", **scan.entities}
    values |= {"folder": relative.parent.as_posix(), "stem": split_name(relative)[0]}
    try:
        return Path(root).absolute() / template.format(**values)
    except (KeyError, IndexError, ValueError) as err:
        raise UsageError(
            f"{template}: {{folder}}, {{stem}}, {{sub}} and {{ses}} are known in the name of label files; got {err}"
        ) from err
