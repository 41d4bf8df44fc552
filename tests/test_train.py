"""Training and export: replayable runs, the right weights kept, and a model that works at once."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sctseg7t.cli import train as cli

from sctseg7t.errors import DeviceError, InputError, ModelError
from sctseg7t.zoo.cache import describe, find_in_package, matches
from sctseg7t.zoo.manifest import PACKAGE_DIR, load_manifest
from sctseg7t.zoo.sidecar import schema_problem, spec_from_onnx

torch = pytest.importorskip("torch", reason="needs the [train] extra")
onnx = pytest.importorskip("onnx", reason="needs the [train] extra")

from sctseg7t.simulate import anatomy, neck
from sctseg7t.train import export, loop
from sctseg7t.train.loop import TrainRecipe, make_network, train
from sctseg7t.train.network import UNet, count_parameters

# torch announces another exporter; the one in use folds batch normalisation, which is wanted.
pytestmark = [pytest.mark.train, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

EXAMPLE = Path(__file__).parents[1] / "examples/t2s.nii.gz"
RECIPES = sorted((Path(loop.__file__).parent / "recipes").glob("*.json"))

RECIPE = TrainRecipe(
    model="cord_gm_sc", task="cord", anatomy=["parametric"], steps=6, batch=2, warmup=2, seed=3,
    validate_every=3, validation_images=2, network={"widths": [16, 16], "fold": 4},
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_anatomy():
    """Few cords, and one thread: quick, and the same bits on any machine."""
    real, threads = anatomy._parametric, torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anatomy, "_parametric", lambda rng: real(rng, count=6))
        patch.setattr(neck, "_brain_maps", lambda: np.full((1, 3, 120, 120), 200, np.uint8))
        patch.delenv("SCT7T_MANIFEST", raising=False)
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
        from sctseg7t.simulate.cord import CordRecipe
        from sctseg7t.simulate.neck import NeckRecipe

        simulation = {"cord": CordRecipe, "locator": NeckRecipe}[recipe.task].from_dict(recipe.simulation)
        assert set(simulation.source_weights or {}) <= set(recipe.anatomy)
        network = make_network(recipe)
        multiple = network.fold * 2 ** (len(network.down) - 1)
        entry = load_manifest().versions(recipe.model)[-1].input
        assert (entry.size_multiple if entry.size is None else entry.size[0]) % multiple == 0

    @pytest.mark.parametrize(
        ("text", "word"),
        [
            ("{", "not a readable JSON"),
            ("[]", "not a recipe"),
            ('{"model": "a", "task": "cord"}', "'anatomy'"),
            ('{"model": "a", "task": "cord", "anatomy": [], "stepz": 1}', "'stepz'"),
        ],
    )
    def test_broken_recipe_is_an_input_error(self, tmp_path, text, word):
        path = tmp_path / "mine.json"
        path.write_text(text)
        with pytest.raises(InputError, match=word) as caught:
            TrainRecipe.read(path)
        assert "mine.json" in str(caught.value) and "\n" not in str(caught.value)

    def test_unknown_recipe_lists_the_shipped_ones(self):
        with pytest.raises(InputError, match="cord_gm_sc, cord_locator"):
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
        best = loop.loss_cord(torch.logit(batch.target, eps=1e-5), batch)
        for other in (batch.target * 0.9, (batch.target + 0.1).clamp(max=1), batch.target.roll(1, 2)):
            assert loop.loss_cord(torch.logit(other, eps=1e-5), batch) > best

    def test_cord_loss_does_not_look_outside(self):
        batch = self.batch()
        batch.inside[..., :4] = 0
        logits = torch.logit(batch.target, eps=1e-5)
        wild = logits.clone()
        wild[..., :4] = 7
        assert torch.allclose(loop.loss_cord(wild, batch), loop.loss_cord(logits, batch))

    def test_locator_loss_is_least_at_the_target(self):
        target = torch.exp(-(torch.arange(16.0) - 8).square() / 18).expand(1, 1, 16, 16)
        batch = SimpleNamespace(target=target)
        best = loop.loss_locator(torch.logit(target, eps=1e-5), batch)
        for other in (target * 0.9, target.roll(1, 3)):
            assert loop.loss_locator(torch.logit(other, eps=1e-5), batch) > best


# ---- the loop ------------------------------------------------------------------


class TestLoop:
    def test_writes_all_it_says(self, run):
        assert {p.name for p in run.iterdir()} >= {"recipe.json", "curves.csv", "last.pt", "model.pt"}
        assert TrainRecipe.read(run / "recipe.json") == RECIPE
        rows = curves(run)
        assert [int(row["step"]) for row in rows] == [3, 6]
        assert list(rows[0]) == [
            "step", "seconds", "train_loss", "loss", "dice_SC", "area_ratio_SC", "dice_GM", "area_ratio_GM"
        ]  # fmt: skip
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
        timeless = [{k: v for k, v in row.items() if k not in ("seconds", "train_loss")} for row in curves(tmp_path)]
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

        def validate(network, batches, recipe, device):
            seen.append({k: v.clone() for k, v in network.state_dict().items()})
            return {"loss": next(scripted)}

        monkeypatch.setattr(loop, "_validate", validate)
        train(replace(RECIPE, validate_every=2), {}, tmp_path, log=Log())
        assert_same_weights(weights(tmp_path / "model.pt"), seen[best])
        recipe, network = export.load_trained(tmp_path)
        record = export._training_record(tmp_path, recipe, network, 0.0)
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
            "mine", "locator", ["parametric"], steps=2, batch=2, validate_every=2, validation_images=2,
            network={"widths": [16, 16], "fold": 4},
        )  # fmt: skip
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
        assert onnx_path == run / "cord_gm_sc-1.0.0.onnx"
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
        assert path == manifest.parent / "sctseg7t/weights/cord_gm_sc-1.0.0.onnx"
        raw = json.loads(manifest.read_text())
        assert schema_problem(raw) is None
        after = {(m["id"], m["version"]): m for m in raw["models"]}
        assert after.keys() == before.keys()
        changed = [key for key in after if after[key] != before[key]]
        assert changed == [("cord_gm_sc", "1.0.0")]
        spec = load_manifest(manifest).model("cord_gm_sc@1.0.0")
        assert matches(path, spec.files[0]), describe(spec.files[0])
        assert spec.training["n"] == RECIPE.batch * spec.training["steps"]
        assert spec.evaluation == () and spec.activation == "sigmoid"
        card = path.with_suffix(".md").read_text()
        assert "cord_gm_sc 1.0.0" in card and "nothing recorded" in card

    def test_scores_stay_with_the_weights_they_belong_to(self, run, manifest):
        export.export(run, manifest=manifest)
        raw = json.loads(manifest.read_text())
        entry = next(m for m in raw["models"] if m["id"] == "cord_gm_sc")
        score = {"dataset": "made up", "role": "test", "structure": "GM", "metric": "Dice", "mean": 0.5, "units": ""}
        entry["evaluation"] = [score]
        manifest.write_text(json.dumps(raw))
        path = export.export(run, manifest=manifest)
        assert load_manifest(manifest).model("cord_gm_sc").evaluation == (score,)
        assert "made up (test): GM Dice 0.5" in path.with_suffix(".md").read_text()
        path = export.export(run, manifest=manifest, version="1.1.0")
        assert load_manifest(manifest).model("cord_gm_sc@1.1.0").evaluation == (score,)

    def test_new_version_becomes_the_default_beside_the_old(self, run, manifest):
        export.export(run, manifest=manifest, version="1.1.0")
        found = {spec.version: spec.default for spec in load_manifest(manifest).versions("cord_gm_sc")}
        assert found == {"1.0.0": False, "1.1.0": True}

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
        assert sum(p.stat().st_size for p in (PACKAGE_DIR / "weights").glob("*.onnx")) < 8e6

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
        assert capsys.readouterr().out.strip() == str(out / "cord_gm_sc-1.0.0.onnx")

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            (["-config", "nothing"], "cord_gm_sc, cord_locator"),
            (["-config", "cord_gm_sc", "-data", "AMU7T"], "SOURCE=FOLDER"),
            (["-config", "cord_gm_sc", "-steps", "0"], "-steps"),
            (["-config", "cord_gm_sc"], "sct7t_download export AMU7T "),
            (["-export"], "model.pt"),
        ],
    )
    def test_wrong_use_is_one_line_and_2(self, tmp_path, capsys, options, word):
        assert cli.main(["-o", str(tmp_path / "run"), *options]) == 2
        error = capsys.readouterr().err
        assert word in error and error.count("\n") == 1

    def test_config_is_needed_to_train(self, tmp_path, capsys):
        with pytest.raises(SystemExit) as caught:
            cli.main(["-o", str(tmp_path)])
        assert caught.value.code == 2 and "-config" in capsys.readouterr().err
