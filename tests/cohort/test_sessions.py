"""Sessions of a participant in their order, and which scan a follow-up is compared with."""

from pathlib import Path

import pytest

from sctseg7t.bids import entities_of
from sctseg7t.cohort.find import Scan
from sctseg7t.cohort.sessions import pair_sessions
from sctseg7t.errors import UsageError


def scans(*names):
    return [Scan(Path(f"/data/{n}.nii.gz"), f"{n}.nii.gz", n, entities_of(f"{n}.nii.gz")) for n in names]


KNOWN = scans("sub-01_ses-1_FLAIR", "sub-01_ses-2_FLAIR", "sub-01_ses-10_FLAIR", "sub-02_ses-1_FLAIR", "sub-03_FLAIR")


@pytest.mark.parametrize("which, baseline", [("previous", "sub-01_ses-2_FLAIR"), ("first", "sub-01_ses-1_FLAIR")])
def test_session_ten_follows_session_two(which, baseline):
    followups, baselines, notes = pair_sessions(KNOWN, KNOWN, which)
    assert [scan.name for scan in followups] == ["sub-01_ses-2_FLAIR", "sub-01_ses-10_FLAIR"]
    assert baselines["sub-01_ses-10_FLAIR"].name == f"{baseline}.nii.gz"
    (note,) = notes
    assert "one session only" in note and "sub-02_ses-1_FLAIR" in note and "sub-03_FLAIR" in note


def test_a_baseline_need_not_be_run_itself():
    chosen = [scan for scan in KNOWN if scan.entities.get("ses") == "10"]
    followups, baselines, notes = pair_sessions(chosen, KNOWN, "previous")
    assert followups == chosen and list(baselines) == ["sub-01_ses-10_FLAIR"] and not notes


def test_runs_are_paired_with_their_own():
    known = scans(*(f"sub-01_ses-{s}_run-{r}_FLAIR" for s in (1, 2) for r in (1, 2)), "sub-01_ses-2_acq-x_FLAIR")
    _, baselines, notes = pair_sessions(known, known, "previous")
    assert {name: path.name for name, path in baselines.items()} == {
        f"sub-01_ses-2_run-{r}_FLAIR": f"sub-01_ses-1_run-{r}_FLAIR.nii.gz" for r in (1, 2)
    }
    assert any("none of the same run" in note and "acq-x" in note for note in notes)


def test_without_a_pair_it_is_refused():
    with pytest.raises(UsageError, match="no pair of sessions.*one session only"):
        pair_sessions(KNOWN[3:], KNOWN[3:], "previous")
