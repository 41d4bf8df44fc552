"""Data sets of simulated scans: recipes by name or file, and a BIDS folder with its tables."""

import csv
import io
import json
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.errors import InputError, OutputError
from sctseg7t.files import write_bytes, write_json
from sctseg7t.image.nifti import save
from sctseg7t.simulate import recipe_file
from sctseg7t.simulate.anatomy import SPACING_MM, AnatomyBank
from sctseg7t.simulate.effect import EFFECTS, read_settings
from sctseg7t.simulate.scan import ScanPlan, simulate_scan
from sctseg7t.version import __version__

_FOLDER = Path(__file__).parent / "recipes"
# Where a recipe may give a range for what a plan decides.
_PLANNED = {"pixel_mm": ("resolution", "pixel"), "thickness_mm": ("slab", "thickness"), "snr": ("noise", "snr")}

_ORGANS = {
    "cord": "cord: windows and scans (sct7t_simulate; a training recipe's simulation)",
    "neck": "neck: whole slices for the locator (a training recipe's simulation)",
    "brain": "brain: FLAIR with lesions (a training recipe's simulation, effects)",
    "patch": "patch: pieces of those brains (a training recipe's simulation, patches)",
    "pair": "pair: patches of two scans of one brain (a training recipe's simulation, patches)",
    "slab": "slab: a few slices of those brains, as they were scanned (a training recipe's simulation, slabs)",
    "head": "head: whole heads of any contrast, to find the brain in (a training recipe's simulation)",
}


@dataclass(frozen=True)
class ScanRecipe:
    """Name (the group of its scans), description, anatomy sources, and settings by effect."""

    name: str = "default"
    description: str = "All effects at their defaults, ordinary contrast."
    anatomy: tuple[str, ...] = ("parametric",)
    simulation: dict[str, Any] = field(default_factory=dict)

    @property
    def stem(self) -> str:
        """What the subjects' names begin with: letters and digits, as BIDS has it."""
        return "sim" if self.name == "default" else re.sub("[^A-Za-z0-9]", "", self.name)

    def of_sources(self, anatomy: Sequence[str]) -> "ScanRecipe":
        """The recipe with other anatomy sources; shares of those that it had are left out."""
        simulation = {**self.simulation}
        subject = {**(simulation.get("subject") or {})}
        if subject.get("source_weights"):
            kept = {name: share for name, share in subject["source_weights"].items() if name in anatomy}
            simulation["subject"] = {**subject, "source_weights": kept or None}
        return ScanRecipe(self.name, self.description, tuple(anatomy), simulation)

    def of_quality(self, **given: float | None) -> "ScanRecipe":
        """The recipe with one ``pixel_mm``, ``thickness_mm`` or ``snr`` for all images, where given."""
        simulation = {**self.simulation}
        for name, (effect, setting) in _PLANNED.items():
            if given.get(name) is not None:
                simulation[effect] = {**(simulation.get(effect) or {}), setting: (given[name], given[name])}
        return ScanRecipe(self.name, self.description, self.anatomy, simulation)


def read_recipe(name: str | Path | None = None) -> ScanRecipe:
    """Read a recipe: a shipped one's name, or a JSON file with ``simulation`` and maybe ``anatomy``.

    A training recipe will do, and it may name a ``base``. None gives the defaults.

    Raises
    ------
    InputError
        No such recipe, not a recipe, or one with an unknown effect or setting.
    """
    if name is None:
        return ScanRecipe()
    path, values = recipe_file.read_recipe_file(name, _FOLDER)
    simulation = values.get("simulation")
    if not isinstance(simulation, dict) or values.get("task", "cord") != "cord":
        raise InputError(f"{name}: not a recipe of cord scans; give it an object 'simulation' of settings by effect")
    try:
        read_settings("cord", simulation)
    except InputError as err:
        raise InputError(f"{name}: {err}") from err
    anatomy = values.get("anatomy", ["parametric"])
    anatomy = (anatomy,) if isinstance(anatomy, str) else tuple(anatomy)
    return ScanRecipe(path.stem, str(values.get("description", "")), anatomy, simulation)


def plan_scan(recipe: ScanRecipe, seed: int, **given: Any) -> ScanPlan:
    """A plan: what is ``given`` (None: not given), else drawn from the recipe's range, else the default.

    Raises
    ------
    UsageError
        The plan cannot be.
    """
    values = {name: value for name, value in given.items() if value is not None}
    rng = np.random.default_rng((seed, 2))
    for name, (effect, setting) in _PLANNED.items():
        share = rng.uniform()
        span = (recipe.simulation.get(effect) or {}).get(setting)
        if span is not None and name not in values:
            values[name] = float(span[0] + share * (span[1] - span[0]))
            if name == "pixel_mm":
                values[name] = max(values[name], SPACING_MM)
    return ScanPlan(seed, **values)


def write_scan(
    folder: str | Path, bank: AnatomyBank, recipe: ScanRecipe, plan: ScanPlan, anatomy_seed: int
) -> tuple[str, Path]:
    """Simulate a scan and write it, its truth and its record into ``folder/sub-*/anat``.

    Returns
    -------
    subject : str
    path : Path
        Of the image.

    Raises
    ------
    OutputError
        A file or folder cannot be written.
    """
    image, truth, record = simulate_scan(bank, plan, recipe.simulation)
    subject = f"sub-{recipe.stem}{plan.seed:04d}"
    inside = Path(folder) / subject / "anat"
    _make_folder(inside)
    path = inside / f"{subject}_T2starw.nii.gz"
    save(image, path)
    for name, fraction in truth.items():
        save(fraction, inside / f"{subject}_label-{name}_probseg.nii.gz")
    origin = {
        "simulated": True,
        "version": __version__,
        "group": recipe.name,
        "anatomy": list(recipe.anatomy),
        "anatomy_seed": anatomy_seed,
    }
    write_json(inside / f"{subject}_T2starw.json", {**origin, **record})
    return subject, path


def write_participants(folder: str | Path, rows: Sequence[dict[str, str]]) -> None:
    """Write a BIDS folder's ``dataset_description.json`` and ``participants.tsv``.

    Participants whose scans another call wrote stay in the table, so that groups can share a folder.

    Parameters
    ----------
    folder : path
    rows : sequence of dict of str to str
        With ``participant_id``.

    Raises
    ------
    InputError
        The table that is there cannot be read.
    """
    folder = Path(folder)
    _make_folder(folder)
    path = folder / "participants.tsv"
    try:
        before = list(csv.DictReader(path.read_text().splitlines(), delimiter="\t")) if path.exists() else []
    except (OSError, UnicodeDecodeError) as err:
        raise InputError(f"{path}: cannot be read ({err}); move it away") from err
    if any("participant_id" not in row or None in row or None in row.values() for row in before):
        raise InputError(f"{path}: not a table of participants (no participant_id, or uneven rows); move it away")
    known = {row["participant_id"]: row for row in [*before, *rows]}
    columns = list(dict.fromkeys(key for row in known.values() for key in row))
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, "n/a", delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(known.values())
    write_bytes(path, stream.getvalue().encode())
    description = {
        "Name": "Simulated spinal cord scans",
        "BIDSVersion": "1.9.0",
        "DatasetType": "raw",
        "GeneratedBy": [{"Name": "sctseg7t", "Version": __version__}],
    }
    if not (folder / "dataset_description.json").exists():
        write_json(folder / "dataset_description.json", description)
    if not (folder / ".bidsignore").exists():
        # The true fractions lie beside the images, where BIDS has no place for them.
        write_bytes(folder / ".bidsignore", b"*_probseg.nii.gz\n")


def effects_table() -> str:
    """Text that lists every effect by organ: its stage, what it does, and its settings with their defaults."""
    from sctseg7t.simulate import neck  # noqa: F401 - what of them registers effects is imported
    from sctseg7t.simulate.brain import heads, pair_patches, patches  # noqa: F401

    width = max(len(name) for effects in EFFECTS.values() for name in effects) + 2
    lines = []
    for organ, effects in EFFECTS.items():
        lines += [f"{_ORGANS[organ]}\n", f"{'EFFECT':{width}}{'STAGE':13}{'REQUIRED':10}WHAT IT DOES, AND ITS SETTINGS"]
        for entry in effects.values():
            required = "yes" if entry.required else "no"
            lines.append(f"{entry.name:{width}}{entry.stage:13}{required:10}{entry.summary.replace('``', '')}")
            settings = ", ".join(f"{name} {json.dumps(value)}" for name, value in entry.defaults.items())
            lines += [" " * (width + 23) + line for line in textwrap.wrap(settings, 90)]
        lines.append("")
    return "\n".join(lines).rstrip()


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{folder}: cannot be made ({err.strerror or err}); choose another output folder") from err
