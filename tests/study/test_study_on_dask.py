"""A study on a scheduler with a worker of its own, trainings and all."""

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="needs the [train] extra")
pytest.importorskip("distributed", reason="needs the extra dask")

from dask_cluster import cluster  # noqa: E402
from train_helpers import SMALL, rows_of, save_people  # noqa: E402

pytestmark = [
    pytest.mark.train,
    pytest.mark.skipif(os.name == "nt", reason="signals are other things on Windows"),
]


def test_a_study_on_dask_trains_and_goes_on(tmp_path):
    """A cell is trained by the worker, a broken one is a row with its reason; a second run repeats only that."""
    people, out = save_people(tmp_path / "people"), tmp_path / "out"
    config = tmp_path / "tiny.json"
    config.write_text(
        json.dumps(
            {
                "name": "tiny",
                "recipe": SMALL | {"steps": 2, "labels": {"SC": []}},
                "grids": [{"augmentation": ["none"], "patients": [2, 9]}],
                "method": ["augmentation"],
                "splits": {"folds": "each"},
            }
        )
    )
    words = [
        sys.executable,
        "-m",
        "sctseg7t.cli.study",
        "-config",
        config,
        "-scans",
        people,
        "-o",
        out,
        "-threads",
        "1",
    ]

    def study(address):
        line = [*map(str, words), "-threads", "1", "-engine", "dask", "-scheduler", address]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        return {row["patients"]: row for row in rows_of(out / "cells.csv")}

    with cluster(tmp_path / "dask", 1) as address:
        cells = study(address)
        assert cells["2"]["status"] == "ok", cells["2"]["reason"]
        assert 0 <= float(cells["2"]["dice_test_SC"]) <= 1
        assert cells["9"]["status"] == "failed"
        assert "not 9" in cells["9"]["reason"]
        (weights,) = out.glob("cells/*/run/model.pt")
        before = weights.stat().st_mtime_ns
        assert study(address)["2"]["status"] == "ok"
        assert weights.stat().st_mtime_ns == before
