"""Every flag of a row, declared once: its name, its rows, its meaning, and whether means leave its slice out."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """A doubt about a row, in the column ``flags`` of a table, in the scan's record and on the terminal.

    Attributes
    ----------
    name : str
    of : str
        The rows that have it: ``all tissues``, ``SC``, ``GM``, ``lesions`` or ``follow-ups``.
    meaning : str
    left_out : bool
        Whether a slice with it enters no mean.
    """

    name: str
    of: str
    meaning: str
    left_out: bool = False


FLAGS = (
    Flag("locator_unsure", "all tissues", "the slice itself does not show where the cord is; its neighbours placed it"),
    Flag("touches_window_edge", "all tissues", "the cord may be cut by the edge of the network's window", True),
    Flag("touches_image_edge", "all tissues, lesions", "it may be cut by the edge of the image", True),
    Flag("empty_SC", "SC", "nothing was found in this slice"),
    Flag("empty_GM", "GM", "nothing was found in this slice"),
    Flag("empty_WM", "WM", "nothing was found in this slice"),
    Flag("sc_area_jump", "SC", "SC differs from its neighbours by more than 25 % and 8 mm²"),
    Flag("sc_area_implausible", "SC", "SC is outside 20 to 150 mm²"),
    Flag("gm_sc_ratio_implausible", "GM", "GM is outside 8 to 50 % of SC"),
    Flag(
        "gm_contrast_low",
        "GM, WM",
        "the image does not show what the mask of GM claims: GM cannot be told from WM",
    ),
    Flag(
        "contrast_unusual",
        "all tissues",
        "the cord is brighter than what surrounds it, as on T1w: a model for T2*w does not know this; trust no mask",
    ),
    Flag(
        "past_cord_end",
        "all tissues",
        "SC widens and gets round as in the brainstem, or tapers as at the end of the conus",
        True,
    ),
    Flag("gm_outside_sc", "GM", "GM, corrected or given to be measured, leaves SC"),
    Flag(
        "template_doubtful",
        "brains",
        "brain mask and MNI template disagree: look at the mask, trust no locations; each lesion has it",
    ),
    Flag("template_failed", "brains", "the template fits neither mask nor scan: lesions have no locations"),
    Flag("thick_slices", "brains", "thick slices may hide or join lesions, and volumes are rough"),
    Flag("resampled_slices", "brains", "thick slices were resampled to thin ones; loads may be far too large"),
    *(
        Flag(name, "follow-ups", meaning)
        for name, meaning in (
            ("same_scan", "both scans are the same image"),
            ("swapped_order", "by the dates beside them the baseline was acquired after the follow-up"),
            ("registration_doubtful", "both ways of aligning the scans differ by more than 1 mm"),
            ("unlike_scans", "the aligned scans correlate by less than 0.8 over the brain"),
            ("partial_overlap", "less than 90 % of the smaller brain is in both scans"),
            ("noisy_difference", "the scans differ by more than 0.1 medians of the brain everywhere"),
            ("one_stripped", "one scan is skull-stripped and the other is not"),
            ("other_resolution", "the slices of one scan are more than 1.5 times as thick as the other's"),
        )
    ),
    Flag("excluded", "all tissues", "the slice has a flag that the user leaves out (`-exclude-flagged`)", True),
)
NOT_AVERAGED = frozenset(flag.name for flag in FLAGS if flag.left_out)
