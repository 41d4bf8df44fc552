"""sct7t_explain: what a segmentation network looks at, from dreams of its objects."""

from pathlib import Path

from sctseg7t.errors import InputError, UsageError

from . import options as shared
from .parser import COUNT, Option, Parser, number
from .run import Command, make_folder

EPILOG = """
examples:
  sct7t_explain -m cord_gm_sc -map GM -o gm_dreams
  sct7t_explain -m runs/mine -scans DATASET -o dreams
  sct7t_explain -m brain_lesion_unet -scans patients -o lesion_dreams

From an image whose object was taken out the network dreams: gradient ascent on
one voxel of its output. Features of what it then segments are compared with
those of real objects. sensitive: moves into their range. robust: begins and
stays in it. blind: stays outside. over-sensitive: shoots out of it.

Images are simulated by the recipe that the model was trained with (of a zoo
model: the shipped recipe of its name), or are labelled scans (-scans).

The libraries that it needs come with pip install 'sctseg7t[train]'.
"""


def parser() -> Parser:
    """The arguments of the command."""
    return Parser(
        prog="sct7t_explain",
        usage="%(prog)s -m MODEL -o FOLDER [-map NAME] [options]",
        description="Let a network dream of what it segments, and read from the dreams what it asks for: intensity, "
        "contrast, size, shape, texture, place.",
        epilog=EPILOG,
        groups={
            "what": (
                Option(
                    "-m --model MODEL",
                    "run folder of sct7t_train, a .pt or .onnx file, or a model of the zoo; a network of ours",
                    required=True,
                ),
                Option("-map NAME", "which map of it, such as GM (default: the last)"),
                Option("-o --output FOLDER", "folder of the page and its table", required=True),
            ),
            "images": (
                Option("-config RECIPE", "recipe whose simulator makes the images (default: the model's own)"),
                shared.DATA,
                Option("-scans SCANS ...", "labelled scans in place of simulated images, as sct7t_train has"),
            ),
            "dreams": (
                Option("-n N", "number of dreams (default 6)", type=COUNT, default=6),
                Option("-steps N", "steps of each (default 50)", type=COUNT, default=50),
                Option(
                    "-rate R",
                    "change of a step, in SD of the image, over the whole image (default 0.02; volumes 0.001)",
                    type=number(above=0),
                ),
                Option("-seed N", "of images and places (default 0)", type=int, default=0),
                Option("-threads N", "CPU threads (default: all)", type=COUNT),
            ),
            "other": shared.ANSWERS,
        },
    )


def _run(args):
    import torch

    from sctseg7t.explain.dream import DreamSettings, explain
    from sctseg7t.explain.page import place_words, write_page
    from sctseg7t.train.starting import load_start

    if args.scans and args.config:
        raise UsageError("-config and -scans both say where the images come from; give one of them")
    if args.threads:
        torch.set_num_threads(args.threads)
    start = load_start(args.model)
    if start.entry["input"].get("sampling", {}).get("method", "windows") not in ("windows", "patches"):
        raise UsageError(f"-m {args.model}: give a network of windows or patches; others are not read yet")
    name = args.map or start.labels[-1]
    if name not in start.labels:
        raise UsageError(f"-map {name}: {args.model} has no such map; it has {', '.join(start.labels)}")
    folder = make_folder("-o", args.output)
    source, told = _of_scans(args, start) if args.scans else _simulated(args, start)
    spacing_mm = start.entry["input"]["spacing_mm"]
    # A voxel of a volume has more voxels beside it that do not change.
    rate = args.rate or (0.02 if len(spacing_mm) == 2 else 0.001)
    settings = DreamSettings(args.n, args.steps, rate, seed=args.seed)
    # Maps of tissues stay as they are; they follow the images.
    images = sum(not channel.startswith("prior_") for channel in start.channels)
    # Patches of a volume hold many objects each.
    how = {"images": images, "objects": 48 if len(spacing_mm) == 2 else 16}
    found = explain(start.trained(), source, start.labels.index(name), spacing_mm, settings, **how)
    count = len(found.objects["intensity"])
    lines = [
        f"Model {args.model}, map {name}. Images: {told}. {count} real objects.",
        f"{args.n} dreams of {args.steps} steps, each changing the image by {rate:g} SD; seed {args.seed}.",
    ]
    for path in write_page(found, folder, title=f"What {start.entry['id']} looks at: {name}", told=lines):
        print(path)
    for feature, reading in found.readings.items():
        print(f"{feature}: {reading or 'nothing was segmented'}")
    print(place_words(found))
    return 0


def _simulated(args, start):
    """Images of the recipe's simulator, and what they are, in words."""
    import sys
    from dataclasses import replace

    from sctseg7t.train.recipe import RECIPES, read_recipe
    from sctseg7t.train.task import task_of

    own = Path(args.model, "recipe.json") if Path(args.model).is_dir() else Path(args.model).parent / "recipe.json"
    config = args.config or (own if own.is_file() else start.entry["id"])
    if not Path(config).is_file() and not (RECIPES / f"{config}.json").is_file():
        raise UsageError(f"-config: there is no recipe called {config}; name one, or give labelled scans (-scans)")
    recipe = read_recipe(config)
    if recipe.task == "scans":
        raise InputError(f"{config}: the network learned from labelled scans; give such (-scans)")
    if not args.data and "parametric" in recipe.anatomy:
        # Without templates there are drawn anatomies, and nobody to hold out.
        simulation = {**recipe.simulation, "subject": {}}
        recipe = replace(recipe, anatomy=["parametric"], held_out=[], simulation=simulation)
    task = task_of(recipe)
    folders = task.data_folders(args.data)
    source = task.simulator(recipe, folders, Path(args.output), sys.stderr)
    return source, f"simulated by the recipe {recipe.model}, anatomy {', '.join(recipe.anatomy) or 'drawn'}"


def _of_scans(args, start):
    """Labelled scans as the network is given them, and how many, in words."""
    import sys

    from sctseg7t.train import fine_tuning
    from sctseg7t.train.scans.labelled import find_scans, label_map
    from sctseg7t.train.scans.learning import Learning
    from sctseg7t.train.scans.splits import chosen
    from sctseg7t.train.task import task_of

    recipe = fine_tuning.whole_recipe(None, start, {"model": "explained"})
    scans = find_scans(args.scans, label_map(recipe.labels), recipe.images)
    splits, origin = fine_tuning.split_of("none", scans, recipe.seed)
    learning = Learning(scans, chosen(splits, None, origin), origin)
    source, _ = task_of(recipe).sources(recipe, {}, Path(args.output), sys.stderr, learning)
    return source, f"{len(scans)} labelled scans"


main = Command(parser, _run, "interrupted; nothing was written", extra="train")
command = main.process

if __name__ == "__main__":
    command()
