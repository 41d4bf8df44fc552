"""Strategies of transfer at work: the parts of a network, which of them learn, and what a user is told of that."""

import re

from torch import nn

from sctseg7t.errors import InputError
from sctseg7t.train.named_networks import UNet7t, count_parameters
from sctseg7t.train.networks import MPUNetPP, UNet
from sctseg7t.train.recipe import STRATEGIES, Strategy

PARTS = ("down", "bottom", "up", "head")
# Trainable shares (percent) that the study printed, by network: they count something else than whole layers.
PUBLISHED = {
    "study_unet": {"scratch": 100, "half_lr": 100, "freeze_encoder": 56, "freeze_decoder": 68, "freeze_both": 23},
    "study_dynunet": {"scratch": 100, "half_lr": 100, "freeze_encoder": 49, "freeze_decoder": 79, "freeze_both": 28},
}


def strategy_named(name: str) -> Strategy:
    """The strategy of a name (InputError if there is none)."""
    if name not in STRATEGIES:
        raise InputError(f"strategy {name!r} is unknown; use {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def part_of(network: nn.Module, name: str) -> str:
    """The part of a network that a parameter is in: down, bottom, up or head."""
    if isinstance(network, UNet):
        lowest = f"down.{len(network.down) - 1}."
        return "bottom" if name.startswith(lowest) else name.partition(".")[0]
    if isinstance(network, UNet7t):
        return name.partition(".")[0]
    if isinstance(network, MPUNetPP):
        node = re.match(r"nodes\.(\d)(\d)\.", name)
        if not node:
            return "down" if name.startswith("scale.") else "head"
        return "up" if node[2] != "0" else "bottom" if int(node[1]) == network.levels - 1 else "down"
    if name.startswith("model."):
        # MONAI's UNet: each level is a down, what lies below, an up; the first up makes the maps.
        level, rest = 0, name.removeprefix("model.")
        while rest.startswith("1.submodule."):
            level, rest = level + 1, rest.removeprefix("1.submodule.")
        return {"0": "down", "2": "up" if level else "head"}.get(rest.partition(".")[0], "bottom")
    known = {"input_block": "down", "downsamples": "down", "bottleneck": "bottom", "upsamples": "up"}
    return known.get(name.partition(".")[0], "head")


def freeze(network: nn.Module, name: str) -> None:
    """Let only those parameters learn that a strategy leaves free."""
    frozen = strategy_named(name).frozen
    for label, parameter in network.named_parameters():
        parameter.requires_grad_(part_of(network, label) not in frozen)


def keep_statistics(network: nn.Module) -> None:
    """Leave batch normalisation as it was trained: statistics of a few scans would replace those of thousands."""
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()


def shares(network: nn.Module) -> dict[str, tuple[int, int]]:
    """Parameters of each part, and how many of them learn; each counted once."""
    counts = {part: [0, 0] for part in PARTS}
    for name, parameter in network.named_parameters():
        count = counts[part_of(network, name)]
        count[0] += parameter.numel()
        count[1] += parameter.numel() * parameter.requires_grad
    return {part: (total, learning) for part, (total, learning) in counts.items()}


def told(network: nn.Module, kind: str | None = None, strategy: str = "") -> list[str]:
    """What a user is told of a network's size and of what learns, a line each."""
    parts, total = shares(network), count_parameters(network)
    learning = sum(own for _, own in parts.values())
    listed = sum(tensor.numel() for tensor in network.state_dict().values())
    twice = f" ({listed:,} as its state dict lists them, blocks twice)" if listed > 1.5 * total else ""
    lines = [f"{total:,} parameters{twice}, of which {learning:,} learn ({learning / total:.1%})"]
    if strategy:
        each = ", ".join(f"{part} {own:,} of {count:,}" for part, (count, own) in parts.items())
        lines.append(f"strategy {strategy}: {each}")
    published = PUBLISHED.get(kind or "", {}).get(strategy)
    if published is not None and abs(published - 100 * learning / total) >= 0.5:
        lines.append(f"the study printed {published} % here: its shares do not follow from these layers")
    return lines
