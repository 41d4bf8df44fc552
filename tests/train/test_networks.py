"""Networks: sizes in and out, folding, parameters, and what the shipped weights have of them."""

from dataclasses import replace

import pytest
import torch
from train_helpers import RECIPE

from sctseg7t.errors import InputError
from sctseg7t.train import export
from sctseg7t.train.named_networks import build_network, count_parameters
from sctseg7t.train.networks import MPUNetPP, UNet, UNet3d, fold_image, unfold_image, update_average
from sctseg7t.train.recipe import read_recipe
from sctseg7t.train.task import task_of
from sctseg7t.zoo.cache import matches
from sctseg7t.zoo.manifest import PACKAGE_DIR, load_manifest


@pytest.mark.parametrize(
    ("network", "size", "outputs"),
    [
        (UNet((8, 12, 16), outputs=3, fold=1), (8, 4), 3),
        (UNet((8, 12, 16), outputs=3, fold=4), (32, 16), 3),
        (UNet3d((16, 16)), (16, 32, 16), 1),
        (MPUNetPP(), (16, 32, 16), 1),
    ],
)
def test_output_has_the_size_of_the_input(network, size, outputs):
    channels = 1 if len(size) == 2 else 3
    assert network.eval()(torch.zeros(2, channels, *size)).shape == (2, outputs, *size)


@pytest.mark.parametrize("size", [(8, 12), (4, 6, 8)])
def test_folding_keeps_neighbours_together_and_is_undone(size):
    x = torch.rand(2, 3, *size)
    folded = fold_image(x, 2)
    dimensions = len(size)
    assert folded.shape == (2, 3 * 2**dimensions, *(n // 2 for n in size))
    first = x[(0, 0, *[slice(2)] * dimensions)].flatten()
    assert torch.equal(folded[(0, slice(2**dimensions), *[0] * dimensions)], first)
    assert torch.equal(unfold_image(folded, 2), x)


@pytest.mark.parametrize(
    ("options", "dimensions", "word"),
    [
        ({"kind": "unet3d"}, 2, "use unet, unet_7t"),
        ({"kind": "unet4d"}, 3, "use unet3d, mpunetpp"),
        ({"kind": "unet3d", "wdiths": [16]}, 3, "wdiths"),
        # The task decides, not the recipe.
        ({"outputs": 3}, 2, "outputs"),
    ],
)
def test_networks_that_cannot_be_built_are_named(options, dimensions, word):
    with pytest.raises(InputError, match=word):
        build_network(replace(RECIPE, network=options), 1, 2, dimensions)


def test_average_follows_weights_and_batch_statistics():
    average, network = UNet((8, 8), fold=2), UNet((8, 8), fold=2).train()
    network(torch.rand(4, 1, 8, 8) + 5)
    before = {k: v.clone() for k, v in average.state_dict().items()}
    update_average(average, network, 0.75)
    for name, value in average.state_dict().items():
        other = network.state_dict()[name]
        expected = 0.75 * before[name] + 0.25 * other if value.is_floating_point() else other
        assert torch.allclose(value, expected), name


@pytest.mark.parametrize(
    "name",
    [
        "cord_gm_sc",
        "cord_locator",
        "brain_lesion_unet",
        "brain_lesion_mpunetpp",
        "brain_lesion_views",
        "brain_lesion_views_thin",
    ],
)
def test_shipped_weights_are_those_of_recipe_and_manifest(name):
    recipe, spec = read_recipe(name), load_manifest().versions(name)[-1]
    path = PACKAGE_DIR / "weights" / spec.files[0].name
    assert matches(path, spec.files[0]) and path.stat().st_size < 8e6
    assert spec.training["parameters"] == count_parameters(task_of(recipe).network(recipe))
    assert spec.training["onnx_parity"] < export.PARITY


def test_network_without_norm_starts_from_the_zoo():
    """What it returns is what the shipped file returns; a network with batch normalisation is refused."""
    import numpy as np

    from sctseg7t.runtime import open_session
    from sctseg7t.train import checkpoint

    network = UNet(norm=False).eval()
    path = checkpoint.start_from(network, "cord_gm_sc@1.1.0")
    image = np.random.default_rng(1).standard_normal((1, 1, 128, 128)).astype(np.float32)
    with torch.no_grad():
        found = torch.sigmoid(network(torch.from_numpy(image))).numpy()
    np.testing.assert_allclose(found, open_session(path, "cpu").run(image), atol=1e-5)
    with pytest.raises(InputError, match='"norm": false'):
        checkpoint.start_from(UNet(), path)
