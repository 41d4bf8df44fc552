"""The segmenter of follow-up pairs: lesions of a brain at two times, and which of them are new or have grown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.brain.changes import CODES, Changes, Rule, find_changes
from sctseg7t.brain.isotropic_grid import mask_to_native, to_native
from sctseg7t.brain.normalise import normalise
from sctseg7t.brain.pair import Pair, Scan, pair_up
from sctseg7t.brain.pair_checks import check_pair, pair_warnings
from sctseg7t.brain.rigid import itk_transform
from sctseg7t.brain.segmenter import (
    BrainResult,
    BrainSegmenter,
    Prepared,
    edge_warnings,
    only_volume,
    prepare,
    prior_channels,
    regions_of,
)
from sctseg7t.image.masks import read_mask
from sctseg7t.image.nifti import save
from sctseg7t.image.volume import Volume
from sctseg7t.image.volume import to_native as to_file
from sctseg7t.inference.postprocess import override
from sctseg7t.inference.segmenter import Clock, Options, Result, Source, load_scan
from sctseg7t.measure.followup import FollowUp, measure_followup
from sctseg7t.measure.lesions import measure_lesions
from sctseg7t.version import __version__
from sctseg7t.zoo.spec import ModelSpec

SHARES = {"load": 1.0, "prepare": 45.0, "align": 15.0, "network": 25.0, "compare": 5.0, "measure": 9.0}
NEW, BASELINE = "NEWLESION", "baseline"


@dataclass(frozen=True, eq=False, repr=False)
class FollowUpResult(BrainResult):
    """Lesions of a follow-up scan and what has changed since the baseline.

    Attributes
    ----------
    followup : FollowUp
        New lesions, all lesions at both times, and the counts.
    pair : Pair
        Both scans on their halfway grid.
    changes : Changes
        On that grid.
    maps : dict of str to nibabel image
        Further maps, by kind of table: numbers of new lesions, changes, baseline's lesions, and those on other grids.
    """

    followup: FollowUp = field(kw_only=True)
    pair: Pair = field(kw_only=True)
    changes: Changes = field(kw_only=True)
    maps: Mapping[str, Any] = field(kw_only=True)

    def corrected_by(self, measured: Result) -> Result:
        """Corrected lesions are measured; of corrected new ones the numbers are told again, without their places."""
        followup = self.followup
        maps = dict(self.maps)
        if NEW in measured.corrected:
            mask, before = (read_mask(i).volume > 0.5 for i in (measured.masks[NEW], maps["baselinelesions"]))
            difference = read_mask(maps["difference"]).volume
            followup = measure_followup(
                measure_lesions(mask, self.volume.affine),
                before=before,
                difference=difference,
                changes=followup.lesions,
                centres=followup.centres,
                first_seen=followup.first_seen,
            ).about(followup.details)
            labels = followup.table.labels
            maps["newlabels"] = to_file(self.volume, labels, labels.dtype)
        return replace(
            self,
            masks={**self.masks, **measured.masks},
            tables=measured.tables,
            warnings=[*self.warnings, *(text for text in measured.warnings if text not in self.warnings)],
            corrected=measured.corrected,
            cut=measured.cut,
            details=measured.details,
            followup=followup,
            maps=maps,
        )

    def write_tables(self, tables: Mapping[str, Path], *, masks: Mapping[str, Path], filename: str) -> None:
        from sctseg7t.measure.tables import write_followup_csvs

        super().write_tables(tables, masks=masks, filename=filename)
        write_followup_csvs(self.followup, tables, filename=filename, tool_version=__version__)
        for kind, image in self.maps.items():
            if kind in tables:
                save(image, tables[kind])
        motion = self.pair.motion
        # ITK's way: from the space that is resampled onto to the image.
        transforms = {
            "followup_transform": np.linalg.inv(motion.from_first),
            "baseline_transform": np.linalg.inv(motion.from_second),
        }
        for kind, matrix in transforms.items():
            if kind in tables:
                tables[kind].write_text(itk_transform(matrix), encoding="utf-8")


class FollowUpSegmenter(BrainSegmenter):
    """Segmenter of new and changed lesions between two FLAIR volumes of one person."""

    images = ("scan", BASELINE)
    labels = ()
    unused = ("uncertainty",)

    @staticmethod
    def tables(files: Mapping[str, Any], options: Options = Options()) -> tuple[str, ...]:
        """Kinds of tables and further maps that a scan gets."""
        kinds = ["lesions", "load", "newlesions", "changes", "followup"]
        kinds += [
            "newlabels",
            "changemap",
            "baselinelesions",
            "baselineimage",
            "difference",
            "followup_transform",
            "baseline_transform",
        ]
        for space in options.spaces:
            kinds += SPACES[space]
        return tuple(kinds)

    @classmethod
    def needs(cls, spec: ModelSpec) -> dict[str, Any]:
        """What an entry must say, in words, and whether it does."""
        return super().needs(spec) | cls.change_needs(spec)

    @classmethod
    def change_needs(cls, spec: ModelSpec) -> dict[str, Any]:
        """What it must say of changes."""
        return {
            f"derived must have {NEW}, changes of the output": any(
                one.name == NEW and one.changes_of == spec.outputs[0].name for one in spec.derived
            )
        }

    @classmethod
    def check(cls, spec: ModelSpec) -> None:
        """Refuse an entry that cannot be served (ModelError naming the field)."""
        super().check(spec)
        Rule.read(spec.comparison, spec.label)

    def run(self, scan: Source, **files: Any) -> FollowUpResult:
        """Find the lesions of a follow-up scan, and those that are new since the baseline.

        Parameters
        ----------
        scan : path, nibabel image, or Volume
            Follow-up; 3D.
        **files
            ``baseline``: the earlier scan.

        Raises
        ------
        InputError
            A scan cannot be used, or they are not two scans of one brain in one contrast.
        """
        clock, options, spec = Clock(SHARES, self.model.watch), self.model.options, self.model.spec
        volumes = [load_scan(scan, options, axial=self.axial)]
        given = files[BASELINE]
        volumes.append(load_scan(given, options, axial=self.axial) if not isinstance(given, Volume) else given)
        clock.lap("load")
        # Both are asked first: a bad baseline must not cost the follow-up's minute.
        images = [only_volume(volume) for volume in volumes]
        ready = [self._prepared(volume, image) for volume, image in zip(volumes, images)]
        clock.lap("prepare")
        pair = pair_up(
            *(Scan(own.data, volume.affine, own.mask, volume.name) for own, volume in zip(ready, volumes)),
            spacing_mm=spec.input.spacing_mm[0],
        )
        check_pair(pair, volumes, [own.details for own in ready])
        clock.lap("align")
        opinions = self.opinions(pair, ready[0], clock)
        clock.lap("network")
        changes = self.changes(pair, *opinions)
        clock.lap("compare")
        return self._result(volumes, ready, pair, changes, opinions[:2], clock)

    def _prepared(self, volume: Volume, image: np.ndarray) -> Prepared:
        options = self.model.options
        return prepare(
            image, volume.affine, name=volume.name, bias=options.bias, strip=options.strip, finder=self.finder
        )

    def opinions(self, pair: Pair, ready: Prepared, clock: Clock | None = None) -> list[np.ndarray]:
        """What the network says of both images of a pair: probability on the halfway grid (X, Y, Z), float32.

        Parameters
        ----------
        pair : Pair
        ready : Prepared
            The follow-up, whose template serves both.
        clock : Clock, optional
        """
        tell = (clock or Clock()).tell
        priors = self._priors(pair, ready)
        return [
            self._probability(np.stack([self._normalised(image, pair.brain), *priors]), pair.brain, pair.grid, tell)
            for image in (pair.now, pair.before)
        ]

    def _normalised(self, image, brain):
        how = self.model.spec.input.normalisation
        return normalise(image, brain, how["name"], how["parameters"])

    def _priors(self, pair, ready):
        """The channels that are maps of the template, on the halfway grid."""
        affine = np.linalg.inv(pair.motion.from_first) @ pair.grid.affine
        return prior_channels(ready.template, self.model.spec, affine, pair.brain)

    def changes(self, pair: Pair, now: np.ndarray, before: np.ndarray, *seen: np.ndarray) -> Changes:
        """What has changed in a pair, by the opinions of the network."""
        spec, options = self.model.spec, self.model.options
        small = options.remove_small and {**options.remove_small, "scope": "volume"}
        steps = override(spec.postprocess, small=small, labels=(spec.outputs[0].name,))
        least = max(
            (
                params["min_mm3"] if "min_mm3" in params else params["min_voxels"] * pair.grid.voxel_mm3
                for params in (step["params"] for step in steps if step["op"] == "remove_small")
            ),
            default=0.0,
        )
        threshold = options.threshold or spec.outputs[0].threshold or 0.5
        rule = Rule.read(spec.comparison, spec.label)
        both = (seen[0], seen[1]) if seen else None
        return find_changes(pair, now, before, threshold, rule, min_mm3=least, seen=both)

    def _result(self, volumes, ready, pair, changes, probabilities, clock) -> FollowUpResult:
        options, scan = self.model.options, volumes[0]
        place = _Place(pair, pair.motion.from_first @ scan.affine, scan.data.shape[:3])
        lesions, fraction = place.mask(changes.now, probabilities[0])
        before, _ = place.mask(changes.before, probabilities[1])
        new, new_fraction = place.mask(changes.new, probabilities[0])
        # A lesion keeps its volume on the scan's voxels, which may cost its neighbour one: what is new is a lesion.
        new, lesions = new & ready[0].mask, (lesions | new) & ready[0].mask
        template = ready[0].template
        regions = regions_of(template, scan.affine, lesions.shape) if template else None
        chance = place.image(probabilities[0])
        table = measure_lesions(lesions, scan.affine, regions, probability=chance)
        difference = place.image(pair.difference)
        followup = measure_followup(
            measure_lesions(new, scan.affine, regions, probability=chance),
            before=before,
            difference=difference,
            changes=changes.table,
            centres=_centres(changes, pair, np.linalg.inv(pair.motion.from_first)),
            first_seen=session_of(scan),
        )
        warnings = pair_warnings(pair, volumes, [own.details for own in ready])
        warnings += [f"baseline: {text}" for text in ready[1].warnings if text not in ready[0].warnings]
        soft = {"LESION": np.clip(fraction, 0, 1), NEW: np.clip(new_fraction, 0, 1)}
        hard = {"LESION": lesions, NEW: new}
        maps: dict[str, tuple[np.ndarray, Any]]
        maps = {name: (soft[name], np.float32) if options.soft else (hard[name], np.uint8) for name in hard}
        maps["LABELS"] = (table.labels, table.labels.dtype)
        codes = place.codes(changes, lesions, new)
        clock.lap("measure")
        further = {
            "newlabels": to_file(scan, followup.table.labels, followup.table.labels.dtype),
            "changemap": to_file(scan, codes, np.uint8),
            "baselinelesions": to_file(scan, before & ready[0].mask, np.uint8),
            # Rounded to what noise leaves of them: half the size.
            "baselineimage": to_file(scan, place.image(pair.before).round(3), np.float32),
            "difference": to_file(scan, difference.round(3), np.float32),
        }
        further |= other_grids(options.spaces, volumes[1], pair, changes, probabilities)
        moved = np.linalg.inv(pair.motion.from_second) @ pair.motion.from_first
        about = {
            "baseline": volumes[1].name,
            "followup_to_baseline": np.round(moved, 6).tolist(),
            "turn_deg": round(pair.motion.turn_deg, 3),
            "shift_mm": round(pair.motion.shift_mm, 3),
            "disagreement_mm": round(pair.motion.disagreement_mm, 3),
            "overlap": round(pair.overlap, 4),
            "likeness": round(pair.likeness, 4),
            "noise": round(pair.noise, 4),
            "warnings": [text.partition(":")[0] for text in warnings],
        }
        followup = followup.about(about)
        return FollowUpResult(
            volume=scan,
            masks={name: to_file(scan, *maps[name]) for name in self.model.tissues},
            tables=[table],
            warnings=[*scan.notes, *ready[0].warnings, *warnings, *edge_warnings(table)],
            seconds=clock.seconds,
            locator=ready[0].locator,
            details={
                "brain": {
                    **ready[0].details,
                    "lesions": table.summary(),
                    "followup": {**about, "counts": followup.summary()},
                }
            },
            suffixes=self.model.suffixes,
            kinds=self.tables({}, options),
            followup=followup,
            pair=pair,
            changes=changes,
            maps=further,
        )


@dataclass(frozen=True, eq=False)
class _Place:
    """The way from the halfway grid to a scan's own: its affine in the halfway world, and its shape."""

    pair: Pair
    affine: np.ndarray
    shape: tuple[int, ...]

    def mask(self, mask, probability):
        """The mask there, each lesion with its volume, and the part of each voxel that it covers."""
        return mask_to_native(mask, self.pair.grid, self.affine, self.shape, self.image(probability))

    def image(self, values):
        """A map of the halfway grid there, mean over each voxel."""
        return to_native(values, self.pair.grid, self.affine, self.shape)

    def codes(self, changes: Changes, lesions: np.ndarray, new: np.ndarray) -> np.ndarray:
        """The map of changes there, (X, Y, Z) uint8."""
        codes = changes.codes()
        out = np.zeros(self.shape, np.uint8)
        for code in (CODES["stable"], CODES["shrunk"], CODES["vanished"], CODES["grown"], CODES["new"]):
            found, _ = mask_to_native(codes == code, self.pair.grid, self.affine, self.shape)
            out[found] = code
        # The map says of every new voxel that it is, and of no other.
        fresh = np.isin(out, (CODES["new"], CODES["grown"]))
        out[fresh & ~new] = np.where(lesions[fresh & ~new], CODES["stable"], 0)
        out[new & ~fresh] = CODES["grown"]
        return out


# Further files by the grid that they are on, see sctseg7t.inference.outputs.TABLES.
SPACES = {
    "baseline": ("newlesions@baseline", "lesions@baseline", "changemap@baseline"),
    "halfway": ("newlesions@halfway", "changemap@halfway", "scan@halfway", "baseline@halfway"),
}


def other_grids(
    asked: Sequence[str], baseline: Volume, pair: Pair, changes: Changes, probabilities: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Masks on the baseline's and on the halfway grid, by kind of file."""
    from nibabel import Nifti1Image

    made = {}
    if "baseline" in asked:
        place = _Place(pair, pair.motion.from_second @ baseline.affine, baseline.data.shape[:3])
        new, _ = place.mask(changes.new, probabilities[0])
        lesions, _ = place.mask(changes.before, probabilities[1])
        maps = new, lesions, place.codes(changes, lesions, new)
        made |= {kind: to_file(baseline, array, np.uint8) for kind, array in zip(SPACES["baseline"], maps)}
    if "halfway" in asked:
        maps = changes.new.astype(np.uint8), changes.codes(), pair.now, pair.before
        made |= {kind: Nifti1Image(array, pair.grid.affine) for kind, array in zip(SPACES["halfway"], maps)}
    return made


def session_of(scan: Volume) -> str:
    """What the follow-up is called in tables: its session, else its file."""
    from sctseg7t.bids import entities_of

    session = entities_of(scan.path).get("ses") if scan.path else None
    return f"ses-{session}" if session else scan.path.name if scan.path else scan.name


def _centres(changes, pair, to_scan):
    """Middle of each lesion of either time in the follow-up's world, mm."""
    from nibabel.affines import apply_affine
    from scipy import ndimage

    count = len(changes.table)
    if not count:
        return []
    middles = ndimage.center_of_mass(changes.lesions > 0, changes.lesions, range(1, count + 1))
    return apply_affine(to_scan @ pair.grid.affine, np.array(middles)).tolist()
