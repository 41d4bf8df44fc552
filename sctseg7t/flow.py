"""What every flow shares: the options of a user, the result of a scan, and its times."""

import time
from dataclasses import dataclass, field

from sctseg7t.errors import UsageError
from sctseg7t.image.volume import Volume, load

BIAS = ("auto", "on", "off")
STRIP = ("auto", "stripped", "hd-bet", "template")


@dataclass(frozen=True)
class Options:
    """What a user may change of a model's own way of working; None keeps the model's.

    Attributes
    ----------
    threshold : float or None
        Fraction from which a voxel belongs to the mask, 0..1.
    soft : bool
        Return partial-volume fractions instead of binary masks.
    volumes : str
        4D images: ``each`` volume on its own, or their ``mean``.
    largest, fill_holes : bool or None
    remove_small : dict or None
        ``{"min_voxels": n}`` or ``{"min_mm3": v}``; ``{}`` switches it off.
    bias : str
        Brains: N4 bias correction ``on``, ``off``, or ``auto``: where the scan does not look corrected already.
    strip : str
        Brains: how the brain is found: ``stripped`` (it is alone in the image), ``hd-bet``, ``template``, or ``auto``.
    """

    threshold: float | None = None
    soft: bool = False
    volumes: str = "each"
    largest: bool | None = None
    fill_holes: bool | None = None
    remove_small: dict | None = None
    bias: str = "auto"
    strip: str = "auto"

    def __post_init__(self):
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"-thr {self.threshold}: the threshold is a fraction between 0 and 1")
        if self.volumes not in ("each", "mean"):
            raise UsageError(f"volumes {self.volumes!r}: use each or mean")
        if self.bias not in BIAS:
            raise UsageError(f"bias {self.bias!r}: use {', '.join(BIAS)}")
        if self.strip not in STRIP:
            raise UsageError(f"strip {self.strip!r}: use {', '.join(STRIP)}")


@dataclass(frozen=True, eq=False)
class Result:
    """What came of one scan; each flow adds its own.

    Attributes
    ----------
    masks : dict of str to nibabel image
        By tissue (SC, GM, WM, LESION), on the input's grid: uint8, or float32 fractions if soft.
    suffixes : dict of str to str
        File suffix of each mask.
    tables : list
        Measures, one a volume.
    warnings : list of str
    seconds : dict of str to float
        Time of each step.
    usable : bool
        Whether the scan showed what the model looks for.
    locator : str
        What placed the network's view: ``locator``, ``file``, ``image``, or ``none``.
    details : dict
        What the flow adds to the scan's record.
    """

    volume: Volume
    masks: dict
    suffixes: dict
    tables: list
    warnings: list
    seconds: dict
    usable: bool
    locator: str
    details: dict


@dataclass(eq=False)
class Flow:
    """A model with its sessions open, for one scan or many; each organ has its own.

    Build it with :func:`sctseg7t.pipeline.open_segmenter`. A flow has ``run(source, **labels) -> Result``,
    ``check(spec)``, which refuses entries that it cannot serve, and ``kinds_of_tables(levels)``.
    """

    spec: object
    session: object
    locator_spec: object
    locator: object
    tissues: tuple
    options: Options
    seconds: dict = field(default_factory=dict)

    # Whether scans must be axial slices, and the files that may go with one.
    AXIAL = True
    LABELS = ()

    def load(self, source):
        """The scan as ``run`` takes it; a Volume is returned as it is."""
        return source if isinstance(source, Volume) else load(source, volumes=self.options.volumes, axial=self.AXIAL)

    def suffixes(self):
        """File suffix of every mask this flow returns."""
        return self.spec.suffixes(self.tissues)

    @classmethod
    def check_labels(cls, given):
        """Refuse files that this flow has no use for (UsageError)."""
        for name in given:
            if name not in cls.LABELS:
                known = ", ".join(f"-{label}" for label in cls.LABELS)
                raise UsageError(f"-{name}: this task has no use for it; it takes {known}")


class Clock:
    """Seconds spent in each named step, summed over its laps."""

    def __init__(self):
        self.seconds, self._last = {}, time.perf_counter()

    def lap(self, name):
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now
