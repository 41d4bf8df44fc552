"""Records on disk say what they are of."""

import json

import numpy as np
from qc_brain_helpers import SHAPE, write_brain
from qc_helpers import write_failed, write_scan

from sctseg7t.cohort import find_records


def test_records_say_their_kind(tmp_path):
    write_brain(tmp_path)
    write_brain(tmp_path, "sub-02_FLAIR", mask=np.zeros(SHAPE, bool), raw={"brain": {}})
    write_scan(tmp_path, "sub-01_T2starw")
    write_failed(tmp_path, "sub-03_FLAIR")
    kinds = {record.name: record.kind for record in find_records(tmp_path)}
    assert kinds == {"sub-01_FLAIR": "brain", "sub-02_FLAIR": "brain", "sub-01_T2starw": "cord", "sub-03_FLAIR": None}
    (brain,) = [record for record in find_records(tmp_path) if record.name == "sub-01_FLAIR"]
    raw = json.loads(brain.path.read_text())
    del raw["files"]["sub-01_FLAIR_lesions.csv"]
    brain.path.write_text(json.dumps(raw))
    # A table that the run did not write is not its own, though it lies beside.
    assert next(r for r in find_records(tmp_path) if r.name == brain.name).table("lesions") is None
