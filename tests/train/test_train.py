"""Training and export: replayable runs, the right weights kept, and a model that works at once."""

import csv
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from sctseg7t.cli import train as cli

from sctseg7t.errors import DeviceError, InputError, ModelError, OutputError, UsageError
from sctseg7t.zoo.cache import describe, find_in_package, matches
from sctseg7t.zoo.local_model import schema_problem, spec_from_onnx
from sctseg7t.zoo.manifest import PACKAGE_DIR, load_manifest

torch = pytest.importorskip("torch", reason="needs the [train] extra")
onnx = pytest.importorskip("onnx", reason="needs the [train] extra")

from sctseg7t.simulate import anatomy, neck
from sctseg7t.train import checkpoint, device, entry, export, loop, losses, progress, real
from sctseg7t.train import curves as curves_of
from sctseg7t.train.card import card
from sctseg7t.train.loop import TrainRecipe, make_network, train
from sctseg7t.train.network import UNet, count_parameters
from sctseg7t.train.scans import LabelledScan, find_scans

# torch announces another exporter; the one in use folds batch normalisation, which is wanted.
pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

EXAMPLE = Path(__file__).parents[2] / "examples/t2s.nii.gz"
# Of a model that takes two recipes the second bears its name, and its weights are the shipped ones.
RECIPES = [
    path
    for path in sorted((Path(loop.__file__).parent / "recipes").glob("*.json"))
    if TrainRecipe.read(path).model == path.stem and TrainRecipe.read(path).task != "brain_lesion"
]
VERSION = load_manifest().versions("cord_gm_sc")[-1].version

RECIPE = TrainRecipe(
    model="cord_gm_sc",
    task="cord",
    anatomy=["parametric"],
    steps=6,
    batch=2,
    warmup=2,
    seed=3,
    validate_every=3,
    validation_images=2,
    network={"widths": [16, 16], "fold": 4},
)


@pytest.fixture(scope="module", autouse=True)
def small_anatomy():
    """Few cords, and one thread: quick, and the same bits on any machine."""
    real, threads = anatomy._parametric, torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "_parametric", lambda rng: real(rng, count=6))
        patch.setattr(neck, "_brain_maps", lambda: np.full((1, 3, 120, 120), 200, np.uint8))
        patch.delenv("SCT7T_MANIFEST", raising=False)
        # A picture takes longer than these trainings; TestCurves draws.
        patch.setattr(curves_of, "draw", lambda run, rate: None)
        yield
    torch.set_num_threads(threads)


class Log:
    """Collects what the loop prints; optionally stops it after some lines."""

    def __init__(self, stop_after=None):
        self.text, self.stop_after = "", stop_after

    def write(self, text):
        self.text += text
        if self.stop_after and self.text.count("\n") > self.stop_after:
            raise KeyboardInterrupt

    def flush(self):
        pass


def curves(run):
    with open(run / "curves.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def weights(path):
    return torch.load(path, weights_only=True)


def assert_same_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of six steps."""
    out = tmp_path_factory.mktemp("run")
    train(RECIPE, {}, out, log=Log())
    return out


# ---- recipes and network -------------------------------------------------------


class TestRecipes:
    @pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
    def test_shipped_recipes_are_whole(self, path):
        recipe = TrainRecipe.read(path)
        assert recipe.model == path.stem == export.find_recipe(path.stem).stem
        assert load_manifest().versions(recipe.model)
        assert recipe.validate_every <= recipe.steps and recipe.validation_images >= recipe.batch
        network = make_network(recipe)
        multiple = network.fold * 2 ** (len(network.down) - 1)
        entry = load_manifest().versions(recipe.model)[-1].input
        assert (entry.size_multiple if entry.size is None else entry.size[0]) % multiple == 0

    @pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
    def test_shipped_recipes_simulate(self, path, monkeypatch):
        """With cords that only bear the names of the recipe's sources."""
        recipe, bank = TrainRecipe.read(path), anatomy.load_bank(["parametric"])
        named = replace(bank, source=np.resize(recipe.anatomy, len(bank)))
        monkeypatch.setattr(anatomy, "load_bank", lambda *args, **options: named)
        assert torch.isfinite(loop.make_simulator(recipe, {}).batch(2, 1).image).all()

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{", "not a readable JSON"),
            ("[]", "not a recipe"),
            ('{"model": "a", "task": "cord"}', "'anatomy'"),
            ('{"model": "a", "task": "cord", "anatomy": [], "stepz": 1}', "'stepz'"),
            ('{"model": "a", "task": "brain", "anatomy": ["PAM50"]}', "cord or locator"),
            ('{"model": "a", "task": "cord", "anatomy": ["PAM50"], "steps": "many"}', "steps is 'many'"),
            ('{"model": "a", "task": "cord", "anatomy": ["PAM50"], "batch": 0}', "1 or more"),
            ('{"model": "a", "task": "cord", "anatomy": ["PAM50"], "validate_every": true}', "validate_every"),
            ('{"model": "a", "task": "cord", "anatomy": ["PAM50"], "learning_rate": NaN}', "above 0"),
        ],
    )
    def test_broken_recipe_is_an_input_error(self, tmp_path, text, word):
        path = tmp_path / "mine.json"
        path.write_text(text)
        with pytest.raises(InputError, match=word) as caught:
            TrainRecipe.read(path)
        assert "mine.json" in str(caught.value) and "\n" not in str(caught.value)

    def test_unknown_recipe_lists_the_shipped_ones(self):
        with pytest.raises(InputError, match="cord_gm_sc, cord_gm_sc_base, cord_locator"):
            export.find_recipe("cord")

    def test_unknown_task_simulation_and_network(self):
        with pytest.raises(InputError, match="cord or locator"):
            loop.make_simulator(replace(RECIPE, task="brain"), {})
        with pytest.raises(InputError, match="'snrr'"):
            loop.make_simulator(replace(RECIPE, simulation={"snrr": 1}), {})
        with pytest.raises(InputError, match="network"):
            make_network(replace(RECIPE, network={"depth": 3}))


class TestNetwork:
    @pytest.mark.parametrize("fold", [1, 2, 4])
    def test_output_has_the_size_of_the_input(self, fold):
        network = UNet((8, 12, 16), outputs=3, fold=fold).eval()
        assert network(torch.zeros(2, 1, 4 * fold * 2, 4 * fold)).shape == (2, 3, 4 * fold * 2, 4 * fold)

    def test_folding_keeps_pixels_in_place(self):
        """With a pass-through network, what goes in comes out."""
        network = UNet((8, 8), outputs=1, fold=2)
        x = torch.rand(1, 1, 8, 12)
        folded = torch.nn.functional.pixel_unshuffle(x, network.fold)
        assert torch.equal(torch.nn.functional.pixel_shuffle(folded, network.fold), x)

    def test_every_parameter_is_used(self):
        network = UNet((8, 8, 8), outputs=2, fold=2)
        network(torch.rand(2, 1, 16, 16)).sum().backward()
        assert all(p.grad is not None for p in network.parameters())
        assert count_parameters(network) == sum(p.numel() for p in network.parameters())


class TestSchedule:
    def test_rises_holds_and_falls_to_nearly_zero(self):
        recipe = replace(RECIPE, steps=100, warmup=10, decay=0.4)
        rate = np.array([loop._schedule(step, recipe) for step in range(100)])
        np.testing.assert_allclose(rate[:10], np.arange(1, 11) / 10)
        assert (rate[10:61] == 1).all()
        assert (np.diff(rate[60:]) < 0).all() and rate[-1] == pytest.approx(1 / 40)


class TestLosses:
    def batch(self):
        target = torch.zeros(2, 2, 16, 16)
        target[:, 0, 4:12, 4:12], target[:, 1, 6:10, 6:10] = 1, 0.5
        return SimpleNamespace(target=target, inside=torch.ones(2, 1, 16, 16))

    def test_cord_loss_is_least_at_the_target(self):
        batch = self.batch()
        best = losses.loss_cord(torch.logit(batch.target, eps=1e-5), batch)
        for other in (batch.target * 0.9, (batch.target + 0.1).clamp(max=1), batch.target.roll(1, 2)):
            assert losses.loss_cord(torch.logit(other, eps=1e-5), batch) > best

    def test_cord_loss_does_not_look_outside(self):
        batch = self.batch()
        batch.inside[..., :4] = 0
        logits = torch.logit(batch.target, eps=1e-5)
        wild = logits.clone()
        wild[..., :4] = 7
        assert torch.allclose(losses.loss_cord(wild, batch), losses.loss_cord(logits, batch))

    def test_locator_loss_is_least_at_the_target(self):
        target = torch.exp(-(torch.arange(16.0) - 8).square() / 18).expand(1, 1, 16, 16)
        batch = SimpleNamespace(target=target)
        best = losses.loss_locator(torch.logit(target, eps=1e-5), batch)
        for other in (target * 0.9, target.roll(1, 3)):
            assert losses.loss_locator(torch.logit(other, eps=1e-5), batch) > best


# ---- the loop ------------------------------------------------------------------


class TestLoop:
    def test_writes_all_it_says(self, run):
        assert {p.name for p in run.iterdir()} >= {"recipe.json", "curves.csv", "last.pt", "model.pt"}
        assert TrainRecipe.read(run / "recipe.json") == RECIPE
        rows = curves(run)
        assert [int(row["step"]) for row in rows] == [3, 6]
        assert list(rows[0]) == [
            "step",
            "seconds",
            "train_loss",
            "loss",
            "dice_SC",
            "area_ratio_SC",
            "dice_GM",
            "area_ratio_GM",
        ]
        assert all(np.isfinite(float(value)) for row in rows for value in row.values())

    def test_same_recipe_same_weights(self, run, tmp_path):
        train(RECIPE, {}, tmp_path, log=Log())
        assert_same_weights(weights(tmp_path / "model.pt"), weights(run / "model.pt"))

    def test_resumed_run_is_the_unbroken_one_to_the_bit(self, run, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, {}, tmp_path, log=Log(stop_after=1))
        assert weights(tmp_path / "last.pt")["step"] == 3
        log = Log()
        train(RECIPE, {}, tmp_path, log=log)
        assert "from step 3 of 6" in log.text
        resumed, unbroken = weights(tmp_path / "last.pt"), weights(run / "last.pt")
        for part in ("network", "average"):
            assert_same_weights(resumed[part], unbroken[part])
        assert resumed["step"] == unbroken["step"] == 6 and resumed["best"] == unbroken["best"]
        for a, b in zip(resumed["optimiser"]["state"].values(), unbroken["optimiser"]["state"].values()):
            assert_same_weights(a, b)
        assert_same_weights(weights(tmp_path / "model.pt"), weights(run / "model.pt"))
        timeless = [{k: v for k, v in row.items() if k != "seconds"} for row in curves(tmp_path)]
        assert timeless == [{k: row[k] for k in timeless[0]} for row in curves(run)]

    def test_finished_run_is_left_alone(self, run):
        before = (run / "model.pt").read_bytes(), (run / "curves.csv").read_bytes()
        train(RECIPE, {}, run, log=Log())
        assert ((run / "model.pt").read_bytes(), (run / "curves.csv").read_bytes()) == before

    @pytest.mark.parametrize(
        "change", [{"seed": 4}, {"batch": 4}, {"network": {"widths": [16, 24], "fold": 4}}, {"steps": 9}]
    )
    def test_another_recipe_in_the_folder_is_refused(self, run, change):
        before = (run / "recipe.json").read_bytes()
        with pytest.raises(InputError, match="another recipe"):
            train(replace(RECIPE, **change), {}, run, log=Log())
        assert (run / "recipe.json").read_bytes() == before

    def test_run_may_be_lengthened_before_the_rate_falls(self, tmp_path):
        long = replace(RECIPE, steps=12, validate_every=2)
        with pytest.raises(KeyboardInterrupt):
            train(long, {}, tmp_path, log=Log(stop_after=1))
        log = Log()
        train(replace(long, steps=4), {}, tmp_path, log=log)
        assert "from step 2 of 4" in log.text
        assert [int(row["step"]) for row in curves(tmp_path)] == [2, 4]

    @pytest.mark.parametrize(("losses", "best"), [((3.0, 1.0, 2.0), 1), ((1.0, 2.0, 3.0), 0), ((3.0, 2.0, 2.0), 2)])
    def test_model_is_that_of_the_best_validation(self, tmp_path, monkeypatch, losses, best):
        seen, scripted = [], iter(losses)

        def validate(network, batches, recipe, place):
            seen.append({k: v.clone() for k, v in network.state_dict().items()})
            return {"loss": next(scripted)}

        monkeypatch.setattr(loop, "validate", validate)
        train(replace(RECIPE, validate_every=2), {}, tmp_path, log=Log())
        assert_same_weights(weights(tmp_path / "model.pt"), seen[best])
        recipe, network = export.load_trained(tmp_path)
        record = entry.training_record(tmp_path, recipe, network, 0.0)
        assert record["steps"] == 2 * (best + 1) and record["n"] == 2 * record["steps"]
        assert record["validation"]["loss"] == losses[best]
        assert record["parameters"] == count_parameters(network)

    def test_validated_weights_are_the_averaged_ones(self, run):
        saved = weights(run / "last.pt")
        moved = [
            n for n, v in saved["network"].items() if v.is_floating_point() and not torch.equal(v, saved["average"][n])
        ]
        assert moved
        assert curves(run)[-1]["loss"] != curves(run)[0]["loss"]

    def test_average_follows_weights_and_batch_statistics(self):
        average, network = UNet((8, 8), fold=2), UNet((8, 8), fold=2).train()
        network(torch.rand(4, 1, 8, 8) + 5)
        before = {k: v.clone() for k, v in average.state_dict().items()}
        loop._average(average, network, 0.75)
        for name, value in average.state_dict().items():
            other = network.state_dict()[name]
            expected = 0.75 * before[name] + 0.25 * other if value.is_floating_point() else other
            assert torch.allclose(value, expected), name

    def test_locator_trains_too(self, tmp_path):
        recipe = TrainRecipe(
            "mine",
            "locator",
            ["parametric"],
            steps=2,
            batch=2,
            validate_every=2,
            validation_images=2,
            network={"widths": [16, 16], "fold": 4},
        )
        train(recipe, {}, tmp_path, log=Log())
        assert {"within_3mm", "confident_with_cord", "confident_without"} <= set(curves(tmp_path)[0])

    @pytest.mark.parametrize("device", ["cuda:99", "nonsense"])
    def test_device_that_is_not_there(self, tmp_path, device):
        with pytest.raises(DeviceError, match="use -device cpu") as caught:
            train(RECIPE, {}, tmp_path / "run", device=device, log=Log())
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "run").exists()


# ---- export --------------------------------------------------------------------


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "zoo/models.json"
    path.parent.mkdir()
    path.write_bytes((PACKAGE_DIR / "models.json").read_bytes())
    return path


class TestExport:
    def test_into_the_run_folder_and_used_at_once(self, run, tmp_path, monkeypatch):
        monkeypatch.delenv("SCT7T_MANIFEST", raising=False)
        from sctseg7t.cli import deepseg

        onnx_path = export.export(run)
        assert onnx_path == run / f"cord_gm_sc-{VERSION}.onnx"
        spec = spec_from_onnx(onnx_path)
        assert spec.id == "cord_gm_sc" and spec.training["onnx_parity"] < 1e-4
        assert not list(run.glob(".*.tmp"))
        code = deepseg.main(
            ["-i", str(EXAMPLE), "-m", str(onnx_path), "-ofolder", str(tmp_path / "out"), "-device", "cpu", "-v", "0"]
        )
        # Six steps teach it nothing: the masks may be empty (1), but the run itself must work.
        assert code in (0, 1)
        sidecar = json.loads((tmp_path / "out/t2s_deepseg.json").read_text())
        assert sidecar["model"]["sha256"] == spec.files[0].sha256
        assert (tmp_path / "out/t2s_gmseg.nii.gz").is_file()

    def test_onnx_agrees_with_torch_for_any_number_of_images(self, run):
        from sctseg7t.runtime import open_session

        path = export.export(run)
        _, network = export.load_trained(run)
        session = open_session(path, "cpu", 1)
        for count in (1, 5):
            images = np.random.default_rng(count).standard_normal((count, 1, 128, 128)).astype(np.float32)
            with torch.no_grad():
                expected = torch.sigmoid(network(torch.from_numpy(images))).numpy()
            assert np.abs(session.run(images) - expected).max() < export.PARITY

    def test_manifest_entry_is_updated_and_sound(self, run, manifest):
        before = {(m["id"], m["version"]): m for m in json.loads(manifest.read_text())["models"]}
        path = export.export(run, manifest=manifest)
        assert path == manifest.parent / f"sctseg7t/weights/cord_gm_sc-{VERSION}.onnx"
        raw = json.loads(manifest.read_text())
        assert schema_problem(raw) is None
        after = {(m["id"], m["version"]): m for m in raw["models"]}
        assert after.keys() == before.keys()
        changed = [key for key in after if after[key] != before[key]]
        assert changed == [("cord_gm_sc", VERSION)]
        spec = load_manifest(manifest).model(f"cord_gm_sc@{VERSION}")
        assert matches(path, spec.files[0]), describe(spec.files[0])
        assert spec.training["n"] == RECIPE.batch * spec.training["steps"]
        assert spec.evaluation == () and spec.activation == "sigmoid"
        text = path.with_suffix(".md").read_text()
        assert f"cord_gm_sc {VERSION}" in text and "Nothing recorded" in text

    def test_scores_stay_with_the_weights_they_belong_to(self, run, manifest):
        export.export(run, manifest=manifest)
        raw = json.loads(manifest.read_text())
        entry = next(m for m in raw["models"] if m["id"] == "cord_gm_sc")
        score = {"dataset": "made up", "role": "test", "structure": "GM", "metric": "Dice", "mean": 0.5, "units": ""}
        entry["evaluation"] = [score]
        manifest.write_text(json.dumps(raw))
        path = export.export(run, manifest=manifest)
        assert load_manifest(manifest).model("cord_gm_sc").evaluation == (score,)
        text = path.with_suffix(".md").read_text()
        assert "### made up (test)" in text and "| GM | Dice | 0.5 |  |" in text
        path = export.export(run, manifest=manifest, version="9.1.0")
        assert load_manifest(manifest).model("cord_gm_sc@9.1.0").evaluation == (score,)

    def test_new_version_becomes_the_default_beside_the_old(self, run, manifest):
        export.export(run, manifest=manifest, version="9.1.0")
        found = {spec.version: spec.default for spec in load_manifest(manifest).versions("cord_gm_sc")}
        assert found == {VERSION: False, "9.1.0": True}

    def test_model_of_the_users_own_gets_an_entry_of_its_task(self, run, tmp_path):
        mine = tmp_path / "mine"
        mine.mkdir()
        for name in ("model.pt", "curves.csv"):
            (mine / name).write_bytes((run / name).read_bytes())
        (mine / "recipe.json").write_text(
            json.dumps({**json.loads((run / "recipe.json").read_text()), "model": "mine"})
        )
        spec = spec_from_onnx(export.export(mine))
        assert spec.id == "mine" and not spec.default and spec.task == "gm_sc" and spec.evaluation == ()

    def test_manifest_without_the_model_is_refused_before_anything_is_written(self, run, manifest):
        raw = json.loads(manifest.read_text())
        raw["models"] = [m for m in raw["models"] if m["id"] != "cord_gm_sc"]
        manifest.write_text(json.dumps(raw))
        with pytest.raises(ModelError, match="cord_gm_sc"):
            export.export(run, manifest=manifest)
        assert not (manifest.parent / "sctseg7t").exists()

    def test_disagreement_is_not_written(self, run, manifest, monkeypatch):
        monkeypatch.setattr(export, "parity", lambda *args: 2e-4)
        before = manifest.read_bytes()
        with pytest.raises(ModelError, match="differs from torch"):
            export.export(run, manifest=manifest)
        assert manifest.read_bytes() == before
        assert not list((manifest.parent / "sctseg7t/weights").iterdir())

    def test_folder_without_weights(self, tmp_path):
        with pytest.raises(InputError, match="model.pt"):
            export.export(tmp_path)


# ---- sittings: stopping, going on, damage --------------------------------------


class Asker(Log):
    """Sends this process a signal once a text was logged."""

    def __init__(self, after, number=signal.SIGINT):
        super().__init__()
        self.after, self.number = after, number

    def write(self, text):
        super().write(text)
        if self.after and self.after in self.text:
            self.after = None
            os.kill(os.getpid(), self.number)


class TestStopping:
    @pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 1), (signal.SIGINT, 3), (signal.SIGTERM, 4)])
    def test_stopped_run_goes_on_to_the_bit(self, run, tmp_path, number, at):
        # Progress of step k is told in step k, so the signal arrives before its end or in the next.
        handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
        with pytest.raises(progress.Stopped, match="same command goes on") as caught:
            train(RECIPE, {}, tmp_path, log=Asker(f"step {at}/6", number), report_every=1)
        assert caught.value.number == number
        assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert at <= weights(tmp_path / "last.pt")["step"] <= at + 1
        train(RECIPE, {}, tmp_path, log=Log())
        for name in ("last.pt", "model.pt"):
            mine, whole = weights(tmp_path / name), weights(run / name)
            assert_same_weights(mine.get("average", mine), whole.get("average", whole))
        timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in curves(f)] for f in (tmp_path, run)]
        assert timeless[0] == timeless[1]

    def test_second_request_breaks_off_at_once(self):
        with pytest.raises(KeyboardInterrupt), progress.stop_requests() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert asked == [signal.SIGINT]
            os.kill(os.getpid(), signal.SIGINT)

    def test_job_that_ignores_interrupts_goes_on_ignoring(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with progress.stop_requests() as asked:
                os.kill(os.getpid(), signal.SIGINT)
            assert asked == []
        finally:
            signal.signal(signal.SIGINT, before)

    @pytest.mark.parametrize("lost", ["model.pt", "last.pt"])
    def test_killed_while_writing_leaves_no_doubled_rows(self, run, tmp_path, monkeypatch, lost):
        """Power fails at the second validation, between the row and the file."""
        real_save, count = checkpoint.save, []

        def save(value, path):
            count.append(path.name)
            if count.count(lost) == 2:
                raise KeyboardInterrupt
            real_save(value, path)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "save", save)
            with pytest.raises(KeyboardInterrupt):
                train(RECIPE, {}, tmp_path, log=Log())
        assert len(curves(tmp_path)) == 2 and weights(tmp_path / "last.pt")["step"] == 3
        train(RECIPE, {}, tmp_path, log=Log())
        assert [row["step"] for row in curves(tmp_path)] == ["3", "6"]
        assert_same_weights(weights(tmp_path / "model.pt"), weights(run / "model.pt"))

    def test_state_of_an_earlier_version_is_gone_on_with(self, run, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, {}, tmp_path, log=Log(stop_after=1))
        old = weights(tmp_path / "last.pt")
        torch.save({k: v for k, v in old.items() if k not in ("running", "start")}, tmp_path / "last.pt")
        (tmp_path / "run.json").unlink()
        train(RECIPE, {}, tmp_path, log=Log())
        assert_same_weights(weights(tmp_path / "model.pt"), weights(run / "model.pt"))

    def test_one_training_at_a_time(self, tmp_path):
        with checkpoint.claim(tmp_path), pytest.raises(OutputError, match="another training") as caught:
            train(RECIPE, {}, tmp_path, log=Log())
        assert str(tmp_path) in str(caught.value)
        with checkpoint.claim(tmp_path):
            pass

    def test_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="choose another folder"):
            train(RECIPE, {}, tmp_path / "file/run", log=Log())

    def test_loss_that_is_no_number_ends_the_run_and_keeps_the_state(self, tmp_path, monkeypatch):
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, {}, tmp_path, log=Log(stop_after=1))
        before = (tmp_path / "last.pt").read_bytes()
        monkeypatch.setattr(loop, "loss_of", lambda task: lambda logits, batch: logits.sum() * float("nan"))
        with pytest.raises(InputError, match="learning_rate below 0.0025"):
            train(RECIPE, {}, tmp_path, log=Log())
        assert (tmp_path / "last.pt").read_bytes() == before and len(curves(tmp_path)) == 1


class TestDamage:
    @pytest.fixture
    def half(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, {}, tmp_path, log=Log(stop_after=1))
        return tmp_path

    def spoil(self, path, how):
        if how == "truncated":
            path.write_bytes(path.read_bytes()[:-2000])
        elif how == "foreign":
            path.write_text("not torch")
        elif how == "empty":
            path.write_bytes(b"")
        elif how == "other":
            torch.save([1, 2], path)
        else:
            torch.save({**weights(path), "network": {"a": torch.zeros(2)}}, path)

    @pytest.mark.parametrize("how", ["truncated", "foreign", "empty", "other", "weights"])
    def test_state(self, half, how):
        self.spoil(half / "last.pt", how)
        with pytest.raises(InputError, match="delete it to train again from step 0") as caught:
            train(RECIPE, {}, half, log=Log())
        assert str(half / "last.pt") in str(caught.value) and "\n" not in str(caught.value)
        (half / "last.pt").unlink()
        train(RECIPE, {}, half, log=Log())
        assert [row["step"] for row in curves(half)] == ["3", "6"]

    @pytest.mark.parametrize("how", ["truncated", "foreign", "empty", "other"])
    def test_weights(self, half, how):
        self.spoil(half / "model.pt", how)
        with pytest.raises(InputError, match="model.pt") as caught:
            export.export(half)
        assert "\n" not in str(caught.value) and not list(half.glob("*.onnx"))

    def test_weights_without_state_are_not_overwritten_by_another_recipe(self, half):
        (half / "last.pt").unlink()
        before = (half / "model.pt").read_bytes()
        with pytest.raises(InputError, match="another recipe"):
            train(replace(RECIPE, seed=4), {}, half, log=Log())
        assert (half / "model.pt").read_bytes() == before


# ---- fine-tuning ---------------------------------------------------------------


class TestStart:
    # So slow that the weights stay where they started.
    STILL = replace(RECIPE, seed=9, learning_rate=1e-12, weight_decay=0.0)

    @pytest.mark.parametrize("what", ["", "model.pt", "last.pt"])
    def test_starts_from_the_averaged_weights(self, run, tmp_path, what):
        train(self.STILL, {}, tmp_path, start=run / what, log=Log())
        path = run / (what or "model.pt")
        expected = weights(path)
        expected = expected.get("average", expected)
        for name, value in weights(tmp_path / "last.pt")["network"].items():
            if "running" not in name and "num_batches" not in name:
                assert torch.allclose(value, expected[name], atol=1e-6), name
        sha256 = checkpoint.file_digest(path, "sha256")
        assert json.loads((tmp_path / "run.json").read_text())["start"]["sha256"] == sha256
        assert spec_from_onnx(export.export(tmp_path)).training["start"] == sha256
        assert sha256 in (tmp_path / f"cord_gm_sc-{VERSION}.md").read_text()

    def test_goes_on_with_or_without_naming_the_start_again(self, run, tmp_path):
        recipe = replace(RECIPE, seed=9, validate_every=2)
        for option in (run, None):
            with pytest.raises(KeyboardInterrupt):
                train(recipe, {}, tmp_path, start=option, log=Log(stop_after=1))
        log = Log()
        train(recipe, {}, tmp_path, start=run, log=log)
        assert "from step 4 of 6" in log.text
        assert weights(tmp_path / "last.pt")["start"] and "start" in entry.training_record(tmp_path, *FAKE)

    def test_other_start_in_the_folder_is_refused(self, run, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, {}, tmp_path, log=Log(stop_after=1))
        with pytest.raises(InputError, match="did not start from these weights"):
            train(RECIPE, {}, tmp_path, start=run, log=Log())

    def test_another_network_is_refused_by_name(self, run, tmp_path):
        other = replace(RECIPE, network={"widths": [16, 24], "fold": 4})
        with pytest.raises(
            InputError, match=r"down.1.0.weight is \(16, 16, 3, 3\) there and \(24, 16, 3, 3\)"
        ) as caught:
            train(other, {}, tmp_path, start=run, log=Log())
        assert str(run / "model.pt") in str(caught.value)
        assert not (tmp_path / "recipe.json").exists()

    def test_start_that_is_not_there(self, tmp_path):
        with pytest.raises(InputError, match="no such run folder or weights"):
            train(RECIPE, {}, tmp_path / "run", start=tmp_path / "nothing", log=Log())


FAKE = (RECIPE, make_network(RECIPE), 0.0)


# ---- device and precision ------------------------------------------------------


class TestPlace:
    def test_cpu_is_float32_unless_asked(self, run):
        assert device.place().precision == "float32"
        assert json.loads((run / "run.json").read_text())["sittings"][0]["precision"] == "float32"

    def test_bfloat16_trains_near_float32_and_is_recorded(self, run, tmp_path):
        train(RECIPE, {}, tmp_path, precision="bfloat16", log=Log())
        state = weights(tmp_path / "last.pt")
        assert all(v.dtype == torch.float32 for v in state["network"].values() if v.is_floating_point())
        ours, theirs = (float(curves(folder)[-1]["loss"]) for folder in (tmp_path, run))
        assert ours != theirs and ours == pytest.approx(theirs, rel=0.05)
        assert entry.training_record(tmp_path, *FAKE)["precision"] == "bfloat16"

    def test_precision_is_no_part_of_the_recipe(self, run, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, {}, tmp_path, precision="bfloat16", log=Log(stop_after=1))
        train(RECIPE, {}, tmp_path, precision="float32", log=Log())
        assert (tmp_path / "recipe.json").read_bytes() == (run / "recipe.json").read_bytes()
        assert entry.training_record(tmp_path, *FAKE)["precision"] == "bfloat16, float32"

    def test_auto_takes_bfloat16_where_the_gpu_has_it(self, monkeypatch):
        monkeypatch.setattr(torch, "zeros", lambda *args, **options: None)
        monkeypatch.setattr(torch, "set_num_threads", lambda count: None)
        for capability, expected in (((9, 0), "bfloat16"), ((7, 5), "float32")):
            monkeypatch.setattr(torch.cuda, "get_device_capability", lambda name, found=capability: found)
            found = device.place("cuda", threads=5)
            assert (found.precision, found.workers, found.kind) == (expected, 5, "cuda")
        with pytest.raises(DeviceError, match="-precision float32"):
            device.place("cuda", "bfloat16")

    def test_wrong_precision_and_threads(self):
        with pytest.raises(UsageError, match="auto, float32, bfloat16"):
            device.place(precision="half")
        with pytest.raises(UsageError, match="1 or more"):
            device.place(threads=0)

    def test_many_workers_keep_the_order(self):
        """Slow and fast batches in turn: each step still gets its own."""
        import time

        def batch(count, seed):
            time.sleep(0.02 if seed % 3 == 0 else 0)
            return seed

        simulator = SimpleNamespace(batch=batch)
        found = list(loop._simulated(simulator, replace(RECIPE, steps=20), 4, workers=5))
        assert found == [(step, RECIPE.seed + step) for step in range(4, 20)]

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device that torch can use")
    def test_cuda_trains_as_the_cpu_does(self, run, tmp_path):
        threads = torch.get_num_threads()
        try:
            train(RECIPE, {}, tmp_path, device="cuda", log=Log())
        finally:
            torch.set_num_threads(threads)
        ours, theirs = (float(curves(folder)[-1]["loss"]) for folder in (tmp_path, run))
        assert ours == pytest.approx(theirs, rel=0.1)
        assert json.loads((tmp_path / "run.json").read_text())["sittings"][0]["device_kind"] == "cuda"
        export.export(tmp_path)


# ---- progress and curves -------------------------------------------------------


class Terminal(Log):
    def isatty(self):
        return True


class TestProgress:
    @pytest.fixture
    def clock(self, monkeypatch):
        now = [100.0]
        monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
        return now

    def test_speed_and_time_left_after_a_resume(self, clock):
        log = Log()
        told = progress.Progress(log, total=1000, first=400, batch=16)
        clock[0] += 50
        told.report(500, 0.25)
        # 100 steps of 16 images in 50 s; 500 steps remain.
        assert log.text.startswith("step 500/1000  loss 0.2500  32 images/s  0:04:10 left")
        clock[0] += 100
        told.report(600, 0.25)
        # Speed is that of the last stretch, the time left that of the whole sitting.
        assert "16 images/s  0:05:00 left" in log.text

    def test_in_place_on_a_terminal(self, clock):
        log = Terminal()
        told = progress.Progress(log, 100, 0, 2)
        for step in (1, 2):
            clock[0] += 1
            told.report(step, 0.5)
        assert "\n" not in log.text and log.text.count("\r") == 2
        told.say("a line")
        assert log.text.endswith("\ra line\n")

    def test_plain_lines_every_so_many_steps(self, tmp_path):
        log = Log()
        train(RECIPE, {}, tmp_path, report_every=2, log=log)
        told = [line.split()[1] for line in log.text.splitlines() if "images/s" in line]
        assert told == ["2/6", "4/6", "6/6"] and "\r" not in log.text

    @pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (36061, "10:01:01")])
    def test_duration(self, seconds, text):
        assert progress.duration(seconds) == text


DRAW = curves_of.draw
REAL_ROWS = (("a", (0.5, 0.8)), ("b", (None, 0.6)))


class TestCurves:
    @pytest.fixture(autouse=True)
    def drawing(self, monkeypatch):
        monkeypatch.setattr(curves_of, "draw", DRAW)

    def test_are_drawn_at_the_end_and_again_on_request(self, run):
        path = run / "curves.png"
        path.unlink(missing_ok=True)
        # A finished run draws what is missing and trains nothing.
        train(RECIPE, {}, run, log=Log())
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    @pytest.mark.parametrize("task", ["cord", "locator"])
    def test_with_and_without_real_scans(self, tmp_path, task):
        names = ("dice_SC", "area_ratio_SC") if task == "cord" else ("within_3mm", "confident_without")
        real_names = names if task == "cord" else ("median_mm", "within_3mm")
        rows = [
            {"step": k, "seconds": k, "train_loss": 1 / k, "loss": 1 / k} | dict.fromkeys(names, 0.9) for k in (1, 2)
        ]
        curves_of.append(tmp_path / "curves.csv", rows)
        plain = DRAW(tmp_path, lambda step: 0.1).read_bytes()
        found = [{"step": 2, "scan": scan, **dict(zip(real_names, values))} for scan, values in REAL_ROWS]
        curves_of.append(tmp_path / "real.csv", found)
        assert DRAW(tmp_path, lambda step: 0.1).read_bytes() != plain

    def test_no_matplotlib_is_said_once_and_stops_nothing(self, tmp_path, monkeypatch):
        for name in [n for n in sys.modules if n.partition(".")[0] == "matplotlib"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        log = Log()
        train(RECIPE, {}, tmp_path, log=log)
        assert log.text.count("no curves.png is drawn") == 1 and "matplotlib" in log.text
        assert (tmp_path / "model.pt").is_file() and not (tmp_path / "curves.png").exists()

    def test_nothing_to_draw_yet(self, tmp_path):
        assert curves_of.draw(tmp_path, lambda step: 1.0) is None

    def test_rows_after_the_state_go(self, tmp_path):
        path = tmp_path / "curves.csv"
        curves_of.append(path, [{"step": 1, "loss": 3}, {"step": 2, "loss": 2}])
        curves_of.drop_after(path, 1)
        assert curves_of.read(path) == [{"step": "1", "loss": "3"}]
        curves_of.append(path, [{"step": 2, "loss": 1}])
        assert [row["loss"] for row in curves_of.read(path)] == ["3", "1"]
        curves_of.drop_after(path, 0)
        assert not path.exists()


# ---- real scans ----------------------------------------------------------------


def save_scan(folder, name="a", pixel=0.5, radius_mm=5.0, shape=(70, 60, 5)):
    """A bright disc off the centre and its mask in the three middle slices; returns the two paths."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y = (np.arange(n) - n / 2 for n in shape[:2])
    disc = np.hypot(x[:, None] - 6, y[None] + 4) * pixel <= radius_mm
    volume = np.repeat(disc[..., None], shape[2], 2)
    mask = volume.copy()
    mask[..., [0, -1]] = False
    # Left to right in the file: what is measured must not depend on the voxel order.
    affine = np.diag([-pixel, pixel, 3.0, 1.0])
    paths = folder / f"{name}.nii.gz", folder / f"{name}_seg-manual.nii.gz"
    nib.save(nib.Nifti1Image((volume * 100 + 20).astype(np.float32), affine), paths[0])
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), affine), paths[1])
    return paths


class Bright(torch.nn.Module):
    """Finds what is brighter than the middle of the window's range."""

    def forward(self, image):
        low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
        return ((image - (low + high) / 2) * 20).repeat(1, 2, 1, 1)


class TestFindScans:
    def test_bids_derivatives_and_masks_beside_the_scan(self, tmp_path):
        image, mask = save_scan(tmp_path / "sub-1/anat", "sub-1_T2starw")
        labels = tmp_path / "derivatives/labels/sub-1/anat"
        labels.mkdir(parents=True)
        mask = mask.rename(labels / mask.name)
        gray = labels / "sub-1_T2starw_gmseg-manual.nii.gz"
        gray.write_bytes(mask.read_bytes())
        orphan = labels / "sub-2_T2starw_seg-manual.nii.gz"
        orphan.write_bytes(mask.read_bytes())
        beside, beside_mask = save_scan(tmp_path / "more", "b")
        # Another tool's result is no reference.
        (tmp_path / "more/b_gmseg.nii.gz").write_bytes(mask.read_bytes())
        found = find_scans([str(tmp_path), str(tmp_path / "more")])
        assert found == [
            LabelledScan("b", beside, {"SC": beside_mask}),
            LabelledScan("sub-1_T2starw", image, {"SC": mask, "GM": gray}),
        ]

    def test_named_files(self, tmp_path):
        image, mask = save_scan(tmp_path)
        found = find_scans([f"{image}:GM={mask}"])
        assert found == [LabelledScan("a", image, {"GM": mask})]

    @pytest.mark.parametrize("value", ["{}/nothing", "{}/a.nii.gz", "{}/a.nii.gz:SC={}/no.nii.gz", "{}/empty"])
    def test_wrong_values_are_one_line(self, tmp_path, value):
        save_scan(tmp_path)
        (tmp_path / "empty").mkdir()
        with pytest.raises(InputError, match="IMAGE:SC=MASK:GM=MASK") as caught:
            find_scans([value.replace("{}", str(tmp_path))])
        assert "\n" not in str(caught.value)


class TestRealScans:
    def measure(self, scans, network=None, recipe=RECIPE):
        spec = entry.spec_in_training(recipe)
        return real.evaluate(real.prepare(scans, spec), network or Bright(), spec, device.place())

    def test_what_is_right_scores_one(self, tmp_path):
        image, mask = save_scan(tmp_path)
        (row,) = self.measure([LabelledScan("a", image, {"SC": mask})])
        assert row["dice_SC"] > 0.98 and row["area_ratio_SC"] == pytest.approx(1, abs=0.03)
        assert row["dice_GM"] is None and row["area_ratio_GM"] is None

    def test_what_is_too_small_by_a_known_share(self, tmp_path):
        image, _ = save_scan(tmp_path, radius_mm=4.0)
        _, mask = save_scan(tmp_path / "larger", radius_mm=6.0)
        (row,) = self.measure([LabelledScan("a", image, {"SC": mask, "GM": mask})])
        share = 16 / 36
        assert row["area_ratio_SC"] == pytest.approx(share, abs=0.03)
        assert row["dice_SC"] == pytest.approx(2 * share / (1 + share), abs=0.03)
        assert row["dice_GM"] == row["dice_SC"]

    def test_mean_leaves_out_what_is_absent(self):
        rows = [{"scan": "a", "dice_SC": 0.5, "dice_GM": None}, {"scan": "b", "dice_SC": 0.7, "dice_GM": 0.4}]
        assert real.mean_of(rows) == {"dice_SC": 0.6, "dice_GM": 0.4}

    def test_empty_mask_is_an_input_error(self, tmp_path):
        image, mask = save_scan(tmp_path)
        nib.save(nib.Nifti1Image(np.zeros((70, 60, 5), np.uint8), nib.load(mask).affine), mask)
        with pytest.raises(InputError, match="marks no voxel"):
            self.measure([LabelledScan("a", image, {"SC": mask})])

    def test_measures_what_the_exported_model_gives_a_user(self, run, small, tmp_path):
        """The same masks as the command's with -centerline."""
        from sctseg7t.pipeline import open_segmenter

        mask = np.zeros(nib.load(small).shape, np.uint8)
        mask[45:75, 50:72] = 1
        nib.save(nib.Nifti1Image(mask, nib.load(small).affine), tmp_path / "mask.nii.gz")
        _, network = export.load_trained(run)
        scans = [LabelledScan("t2s", small, {"SC": tmp_path / "mask.nii.gz", "GM": tmp_path / "mask.nii.gz"})]
        (row,) = self.measure(scans, network)
        segmenter = open_segmenter(model=str(export.export(run)), device="cpu", threads=1)
        result = segmenter.run(small, centerline=tmp_path / "mask.nii.gz")
        for name in ("SC", "GM"):
            area = np.asarray(result.masks[name].dataobj).sum()
            assert row[f"area_ratio_{name}"] == pytest.approx(area / mask.sum(), rel=1e-3, abs=2e-4)

    def test_locator_is_measured_in_mm(self, tmp_path, monkeypatch):
        image, mask = save_scan(tmp_path)
        recipe = replace(RECIPE, model="cord_locator", task="locator")
        (row,) = self.measure([LabelledScan("a", image, {"SC": mask})], Bright(), recipe)
        # The heat is flat on the disc: its peak may be anywhere on it.
        assert row["within_3mm"] >= 0 and 0 <= row["median_mm"] <= 5

        class Nothing(torch.nn.Module):
            def forward(self, image):
                return image * 0 - 9

        (row,) = self.measure([LabelledScan("a", image, {"SC": mask})], Nothing(), recipe)
        assert row == {"scan": "a", "median_mm": None, "within_3mm": 0.0}

    def test_training_writes_and_draws_them_and_is_not_changed_by_them(self, run, tmp_path):
        image, mask = save_scan(tmp_path / "scans")
        log = Log()
        recipe = replace(RECIPE, validate_every=2)
        scans = find_scans([str(tmp_path / "scans")])
        train(recipe, {}, tmp_path / "with", scans=scans, scans_every=2, log=log)
        rows = curves_of.read(tmp_path / "with/real.csv")
        # Of three validations the second, and the last as always.
        assert [(row["step"], row["scan"]) for row in rows] == [("4", "a"), ("6", "a")]
        assert list(rows[0]) == ["step", "scan", "dice_SC", "area_ratio_SC", "dice_GM", "area_ratio_GM"]
        assert rows[0]["dice_GM"] == "" and float(rows[0]["dice_SC"]) >= 0
        assert "real scans (n = 1): dice_SC" in log.text
        assert json.loads((tmp_path / "with/run.json").read_text())["sittings"][0]["real_scans"] == ["a"]
        train(recipe, {}, tmp_path / "without", log=Log())
        assert_same_weights(*(weights(tmp_path / name / "model.pt") for name in ("with", "without")))


# ---- model card ----------------------------------------------------------------


class TestCard:
    def entry(self, **changes):
        return {**json.loads((PACKAGE_DIR / "models.json").read_text())["models"][0], **changes}

    def test_measurements_are_a_table_for_each_data_set(self):
        common = {"structure": "SC", "metric": "Dice", "units": "1", "mean": 0.9}
        rows = [
            {**common, "dataset": "here", "role": "validation", "n": 5, "sd": 0.01},
            {**common, "dataset": "there", "role": "external", "metric": "error | max", "units": "mm", "median": 2.0},
        ]
        text = card(self.entry(evaluation=rows))
        assert "### here (validation)\n\n| structure | measure | n | mean | SD | unit |" in text
        assert "| SC | Dice | 5 | 0.9 | 0.01 |  |" in text
        assert "### there (external)" in text and "| SC | error \\| max | 0.9 | 2.0 | mm |" in text

    def test_tells_use_doubts_and_failures(self, tmp_path):
        told = self.entry(
            intended_use="Areas in groups of healthy volunteers.",
            not_checked=["7 T"],
            failures=["Skull base."],
            citation={"text": "A. Author, 2026.", "doi": "10.1/x"},
            licence=None,
        )
        assert schema_problem(told, "model") is None
        stem = Path(told["files"][0]["name"]).stem
        for name in (f"{stem}-failures.png", f"{stem}-failures-2.png", "other-failures.png"):
            (tmp_path / name).write_bytes(b"")
        text = card(told, tmp_path)
        for part in (
            "Areas in groups",
            "## Not checked\n\n- 7 T",
            "- Skull base.",
            "https://doi.org/10.1/x",
            "Not stated",
        ):
            assert part in text
        assert text.count("](") == 2 and f"]({stem}-failures.png)" in text
        assert "](" not in card(told)

    def test_names_the_shipped_recipe_only_if_it_is_the_one(self, run, tmp_path):
        path = export.export(run)
        assert "in an earlier or changed form" in path.with_suffix(".md").read_text()
        shipped = {**json.loads(path.with_suffix(".json").read_text())}
        whole = json.dumps(vars(TrainRecipe.read(RECIPES[0])), indent=2).encode()
        (tmp_path / "r.json").write_bytes(whole)
        shipped["training"]["config_sha256"] = checkpoint.file_digest(tmp_path / "r.json", "sha256")
        assert f"`sctseg7t/train/recipes/{RECIPES[0].name}` |" in card({**shipped, "id": RECIPES[0].stem})
        assert "the user's own" in card({**shipped, "id": "mine"})

    def test_model_of_the_users_own_claims_nothing_of_the_template(self, run, tmp_path):
        own = entry.template(None, replace(RECIPE, model="mine"), "1.0.0")
        assert own["input"]["field_T"] == [] and own["licence"] is None
        assert own["limitations"][0] == "Checked on no real scan yet." and "changelog" not in own

    def test_is_written_again_when_pictures_arrive(self, run, manifest):
        path = export.export(run, manifest=manifest)
        assert "![" not in path.with_suffix(".md").read_text()
        path.with_name(f"{path.stem}-failures.png").write_bytes(b"")
        assert export.rewrite_card(manifest, "cord_gm_sc") == path.with_suffix(".md")
        assert (
            f"![Slices on which cord_gm_sc does worst]({path.stem}-failures.png)" in path.with_suffix(".md").read_text()
        )


# ---- shipped weights -----------------------------------------------------------


def folded_parameters(network):
    """Parameters after each batch normalisation went into the convolution before it.

    A convolution without bias and its normalisation (weight and bias per channel) become a
    convolution with bias: one number per normalised channel fewer.
    """
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    return count_parameters(network) - sum(norm.num_features for norm in norms)


def onnx_parameters(path):
    graph = onnx.load(path).graph
    used = {name for node in graph.node if node.op_type == "Conv" for name in node.input[1:]}
    assert not [node for node in graph.node if node.op_type == "BatchNormalization"]
    return sum(int(np.prod(array.dims)) for array in graph.initializer if array.name in used)


class TestShippedWeights:
    @pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
    def test_have_the_parameters_of_their_recipe(self, path):
        network = make_network(TrainRecipe.read(path))
        spec = load_manifest().versions(path.stem)[-1]
        assert onnx_parameters(find_in_package(spec.files[0])) == folded_parameters(network)
        assert spec.training["parameters"] == count_parameters(network)

    @pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
    def test_are_the_files_that_the_manifest_pins(self, path):
        spec = load_manifest().versions(path.stem)[-1]
        weights_path = PACKAGE_DIR / "weights" / spec.files[0].name
        assert matches(weights_path, spec.files[0])
        assert weights_path.with_suffix(".md").is_file()
        assert spec.training["onnx_parity"] < export.PARITY

    def test_are_small(self):
        sizes = {p.name: p.stat().st_size for p in (PACKAGE_DIR / "weights").glob("*.onnx")}
        assert sum(size for name, size in sizes.items() if name.startswith("cord_")) < 8e6
        assert sum(sizes.values()) < 16e6

    def test_exported_network_has_the_same_relation(self, run):
        _, network = export.load_trained(run)
        assert onnx_parameters(export.export(run)) == folded_parameters(network)


# ---- command line --------------------------------------------------------------


class TestCommand:
    def write(self, tmp_path):
        path = tmp_path / "mine.json"
        path.write_text(json.dumps({**vars(RECIPE), "steps": 4, "validate_every": 1}))
        return str(path)

    def test_trains_and_exports(self, tmp_path, capsys):
        out = tmp_path / "run"
        assert cli.main(["-config", self.write(tmp_path), "-o", str(out), "-steps", "2", "-threads", "1"]) == 0
        assert capsys.readouterr().out.strip() == str(out / "model.pt")
        assert len(curves(out)) == 2
        assert cli.main(["-o", str(out), "-export"]) == 0
        assert capsys.readouterr().out.strip() == str(out / f"cord_gm_sc-{VERSION}.onnx")

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            (["-config", "nothing"], "cord_gm_sc, cord_gm_sc_base, cord_locator"),
            (["-config", "cord_gm_sc", "-data", "AMU7T"], "SOURCE=FOLDER"),
            (["-config", "cord_gm_sc", "-steps", "0"], "-steps"),
            (["-config", "cord_gm_sc", "-val-every", "0"], "-val-every 0"),
            (["-config", "cord_gm_sc", "-val", "nothing"], "IMAGE:SC=MASK:GM=MASK"),
            (["-config", "cord_gm_sc", "-precision", "double"], "bfloat16"),
            (["-config", "cord_gm_sc", "-start", "nothing"], "-start nothing"),
            (["-config", "cord_gm_sc", "-manifest", "models.json"], "add -export"),
            (["-export", "-model-version", "two"], "-model-version two"),
            (["-config", "cord_gm_sc"], "sct7t_download export AMU7T "),
            (["-export"], "model.pt"),
        ],
    )
    def test_wrong_use_is_one_line_and_2(self, tmp_path, capsys, options, word):
        assert cli.main(["-o", str(tmp_path / "run"), *options]) == 2
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1

    def test_trains_to_the_end_and_exports_in_one_go(self, tmp_path, capsys):
        out = tmp_path / "run"
        args = ["-config", self.write(tmp_path), "-o", str(out), "-export", "-model-version", "2.0.1", "-threads", "1"]
        assert cli.main(args) == 0
        printed = [str(out / "model.pt"), str(out / "cord_gm_sc-2.0.1.onnx")]
        assert capsys.readouterr().out.split() == printed and len(curves(out)) == 4
        # Again: nothing to train, and so no anatomy to load.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(anatomy, "load_bank", None)
            assert cli.main(args) == 0
        assert capsys.readouterr().out.split() == printed and len(curves(out)) == 4

    def test_real_scans_and_start(self, run, tmp_path, capsys):
        image, mask = save_scan(tmp_path / "scans")
        args = ["-config", self.write(tmp_path), "-o", str(tmp_path / "run"), "-start", str(run), "-threads", "1"]
        values = ["-val", str(tmp_path / "scans"), f"{image}:SC={mask}", "-val-every", "2"]
        assert cli.main([*args, *values, "-precision", "float32"]) == 0
        assert [row["step"] for row in curves_of.read(tmp_path / "run/real.csv")] == ["2", "4"]
        assert weights(tmp_path / "run/last.pt")["start"]

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_interrupted(self, tmp_path, capsys, monkeypatch, number, code):
        monkeypatch.setattr(loop.Progress, "due", lambda self, done: done == 2 and os.kill(os.getpid(), number))
        args = ["-config", self.write(tmp_path), "-o", str(tmp_path / "run"), "-threads", "1"]
        assert cli.main(args) == code
        assert "the same command goes on from there" in capsys.readouterr().err
        monkeypatch.undo()
        assert cli.main(args) == 0
        assert [row["step"] for row in curves(tmp_path / "run")] == ["1", "2", "3", "4"]

    def test_config_is_needed_to_train(self, tmp_path, capsys):
        assert cli.main(["-o", str(tmp_path)]) == 2 and "-config" in capsys.readouterr().err
