"""One scan to its files, called from Python."""

from sctseg7t.inference import outputs
from sctseg7t.inference.scan_run import ScanTask, segment_to_files


def test_a_missing_file_of_a_role_fails_the_scan_and_writes_nothing(open_cpu, small, tmp_path):
    segmenter = open_cpu()
    others = {"levels": tmp_path / "gone.nii.gz"}
    plan = outputs.plan(small, segmenter.model.suffixes, folder=tmp_path / "out", others=others)
    outcome = segment_to_files(segmenter, ScanTask(plan, {}, "t2s"))
    assert (outcome.status, outcome.kind) == ("failed", "input") and "gone.nii.gz: the levels file" in outcome.error
    assert not list((tmp_path / "out").iterdir())
