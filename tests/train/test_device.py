"""Device and precision: chosen, recorded, and no part of a run's identity."""

import pytest
import torch
from train_helpers import RECIPE, Log, read_json, rows_of, weights

from sctseg7t.errors import DeviceError
from sctseg7t.train import export
from sctseg7t.train.device import choose_place
from sctseg7t.train.loop import train
from sctseg7t.train.manifest_entry import training_record


def test_bfloat16_trains_near_float32_and_a_sitting_may_change_it(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train(RECIPE, {}, tmp_path, precision="bfloat16", log=Log(stop_at="step 3: "))
    state = weights(tmp_path / "last.pt")
    assert all(v.dtype == torch.float32 for v in state["network"].values() if v.is_floating_point())
    ours, theirs = (float(rows_of(folder / "curves.csv")[0]["loss"]) for folder in (tmp_path, run))
    assert ours != theirs and ours == pytest.approx(theirs, rel=0.05)
    train(RECIPE, {}, tmp_path, log=Log())
    assert (tmp_path / "recipe.json").read_bytes() == (run / "recipe.json").read_bytes()
    assert training_record(tmp_path, RECIPE, 1, 0.0)["precision"] == "bfloat16, float32"


def test_auto_takes_bfloat16_where_the_gpu_has_it(monkeypatch):
    monkeypatch.setattr(torch, "zeros", lambda *args, **options: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
    for capability, expected in (((9, 0), "bfloat16"), ((7, 5), "float32")):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name, found=capability: found)
        found = choose_place("cuda", threads=5)
        assert (found.precision, found.workers, found.kind) == (expected, 5, "cuda")


@pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
def test_device_that_is_not_there(tmp_path, device):
    with pytest.raises(DeviceError, match="use the device cpu") as caught:
        train(RECIPE, {}, tmp_path / "run", device=device, log=Log())
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device that torch can use")
def test_cuda_trains_as_the_cpu_does(run, tmp_path):
    threads = torch.get_num_threads()
    try:
        train(RECIPE, {}, tmp_path, device="cuda", log=Log())
    finally:
        torch.set_num_threads(threads)
    ours, theirs = (float(rows_of(folder / "curves.csv")[-1]["loss"]) for folder in (tmp_path, run))
    assert ours == pytest.approx(theirs, rel=0.1)
    assert read_json(tmp_path / "run.json")["sittings"][0]["device_kind"] == "cuda"
    export.export(tmp_path)
