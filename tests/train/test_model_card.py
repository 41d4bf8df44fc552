"""Model cards: written from an entry alone, without torch; the shipped ones are those of their entries."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sctseg7t.train import export
from sctseg7t.train.model_card import model_card, record_evaluation
from sctseg7t.train.recipe import read_recipe
from sctseg7t.zoo.local_model import schema_problem
from sctseg7t.zoo.manifest import PACKAGE_DIR, load_manifest


def an_entry(**changes):
    return {**json.loads((PACKAGE_DIR / "models.json").read_text())["models"][0], **changes}


@pytest.mark.parametrize("path", sorted((PACKAGE_DIR / "weights").glob("*.md")), ids=lambda path: path.stem)
def test_shipped_card_is_that_of_its_entry(path):
    name, _, version = path.stem.rpartition("-")
    assert model_card(load_manifest().model(f"{name}@{version}").raw, path.parent) == path.read_text()


def test_measurements_are_a_table_for_each_data_set():
    common = {"structure": "SC", "metric": "Dice", "units": "1", "mean": 0.9}
    rows = [
        {**common, "dataset": "here", "role": "validation", "n": 5, "sd": 0.01},
        {**common, "dataset": "there", "role": "external", "metric": "error | max", "units": "mm", "median": 2.0},
    ]
    text = model_card(an_entry(evaluation=rows))
    assert "### here (validation)\n\n| structure | measure | n | mean | SD | unit |" in text
    assert "| SC | Dice | 5 | 0.9 | 0.01 |  |\n\n### there (external)\n\n" in text
    assert "| SC | error \\| max | 0.9 | 2.0 | mm |\n\n## Not checked" in text


def test_tells_use_doubts_and_failures(tmp_path):
    told = an_entry(
        intended_use="Areas in groups of healthy volunteers.",
        not_checked=["7 T"],
        failures=["Skull base."],
        citation={"text": "A. Author, 2026.", "doi": "10.1/x"},
        licence=None,
        training=None,
    )
    stem = Path(told["files"][0]["name"]).stem
    for name in (f"{stem}-failures.png", f"{stem}-failures-2.png", "other-failures.png"):
        (tmp_path / name).write_bytes(b"")
    text = model_card(told, tmp_path)
    for part in (
        "Areas in groups",
        "## Not checked\n\n- 7 T",
        "- Skull base.",
        "A. Author, 2026. https://doi.org/10.1/x",
        "## Licence\n\nNot stated.",
        "## Training\n\nNot known.",
    ):
        assert part in text
    assert text.count("](") == 2 and f"]({stem}-failures.png)" in text
    assert "](" not in model_card(told)


def test_names_the_shipped_recipe_only_if_it_is_the_one(run):
    path = export.export(run)
    assert "in an earlier or changed form" in path.with_suffix(".md").read_text()
    shipped = load_manifest().versions("brain_lesion_unet")[-1].raw
    # The last of several turns.
    recipe = read_recipe("brain_lesion_unet_spots").told().encode()
    training = {**shipped["training"], "config_sha256": hashlib.sha256(recipe).hexdigest()}
    card = model_card({**shipped, "training": training})
    assert "`sctseg7t/train/recipes/brain_lesion_unet_spots.json` |" in card
    assert "the user's own" in model_card({**shipped, "id": "mine"})


def test_is_written_again_with_pictures_when_results_arrive(run, manifest):
    path = export.export(run, manifest=manifest)
    assert "![" not in path.with_suffix(".md").read_text()
    path.with_name(f"{path.stem}-failures.png").write_bytes(b"")
    row = {"dataset": "here", "role": "test", "structure": "GM", "metric": "Dice", "mean": 0.5, "units": "1"}
    text = record_evaluation(manifest, "cord_gm_sc", [row]).read_text()
    assert (
        f"![Slices of simulated scans on which cord_gm_sc does worst]({path.stem}-failures.png)" in text
        and "### here (test)" in text
    )
    assert schema_problem(json.loads(manifest.read_text())) is None


def test_needs_no_torch():
    code = "import sys; import sctseg7t.train.model_card; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
