"""The files that go with a scan, each with the role that it plays.

Commands make their options of this table; finding, jobs, records and segmenters speak of files by role.
"""

from dataclasses import dataclass

# The image that is segmented; masks are on its grid.
SCAN = "scan"
IMAGE, LABELS = "image", "labels"
# Roles that say the vertebral levels; a scan has one of them at most.
LEVELS = ("levels", "discfile")


@dataclass(frozen=True)
class Role:
    """What a file that goes with a scan is for.

    Attributes
    ----------
    name : str
    kind : str
        ``image``: another image, which a model needs if its entry lists it. ``labels``: a mask or labels that
        a model may be given.
    help : str
        For options and documents.
    without : str
        What is done where a data set lacks the file of a scan; empty if the scan cannot be segmented then.
    """

    name: str
    kind: str
    help: str
    without: str = ""


ROLES = {
    role.name: role
    for role in (
        Role("baseline", IMAGE, "scan of an earlier time point, for models that compare two"),
        Role("second", IMAGE, "image of another contrast, for models that take two; registered to the scan"),
        Role("centerline", LABELS, "cord mask or point labels to use in place of the locator", "the locator was used"),
        Role(
            "levels",
            LABELS,
            "also measure per vertebral level: a labelled cord, a point on the cord at each vertebra's middle, or a "
            "list (.tsv, .csv) with the columns slice (from 0, the lowest) and level",
            "levels are left empty",
        ),
        Role(
            "discfile",
            LABELS,
            "also measure per vertebral level: a point on each disc, as SCT labels them (3 is C2/C3)",
            "levels are left empty",
        ),
        Role(
            "pmj",
            LABELS,
            "a point on the pontomedullary junction, to give each slice's distance from it",
            "distances are left empty",
        ),
        Role(
            "brainmask",
            LABELS,
            "brain mask to use in place of finding the brain",
            "the brain was found in the scan itself",
        ),
    )
}
