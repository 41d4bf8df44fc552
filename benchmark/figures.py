"""Figures of ``accuracy.py``: overlays, Bland-Altman, Dice per slice, the worst slices."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

# Okabe and Ito's palette, told apart with any colour vision; the references are light, thin and dashed.
OURS = {"SC": "#56b4e9", "GM": "#d55e00"}
REFERENCE = {"SC": "#ffffff", "GM": "#f0e442"}
SCANS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#000000")
MARKERS = ("o", "s", "^", "D", "v")
WINDOW_MM = {"SC": 22.0, "GM": 14.0}


def draw_all(evaluations, folder):
    """Write every figure into a folder."""
    for evaluation in evaluations:
        overlay(evaluation, folder / f"overlay_{evaluation.name}.png")
    bland_altman_plot(evaluations, folder / "bland_altman.png")
    dice_strips(evaluations, folder / "dice.png")
    failures(evaluations, folder / "failures.png")


def overlay(evaluation, path, most=12):
    """At most `most` slices of a scan, evenly spread, with the outlines of reference and ours."""
    count = evaluation.result.volume.data.shape[2]
    chosen = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))
    columns = -(-len(chosen) // 3)
    figure, axes = plt.subplots(3, columns, figsize=(2.5 * columns, 8.2), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for k, axis in zip(chosen, axes.flat):
        _panel(axis, evaluation, k, ("SC", "GM"), WINDOW_MM["SC"])
        axis.set_title(f"slice {k}: " + ", ".join(_score(evaluation, t, k) for t in ("SC", "GM")), fontsize=8)
    _legend(figure, ("SC", "GM"))
    figure.suptitle(evaluation.name, x=0.01, ha="left", fontsize=10)
    _save(figure, path)


def failures(evaluations, path, worst=6):
    """The slices of lowest Dice of each tissue: the image alone, and with the outlines."""
    figure, axes = plt.subplots(4, worst, figsize=(2.1 * worst, 9.2), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for row, tissue in ((0, "GM"), (2, "SC")):
        ranked = sorted(
            (a.dice, n, k)
            for n, e in enumerate(evaluations)
            for k, a in enumerate(e.slices["ours", tissue])
            if a.reference_size
        )
        for (_, n, k), alone, drawn in zip(ranked[:worst], axes[row], axes[row + 1]):
            _panel(alone, evaluations[n], k, (), WINDOW_MM[tissue])
            _panel(drawn, evaluations[n], k, (tissue,), WINDOW_MM[tissue])
            alone.set_title(f"{evaluations[n].name}, slice {k}\n{_score(evaluations[n], tissue, k)}", fontsize=9)
    _legend(figure, ("GM", "SC"))
    _save(figure, path)


def bland_altman_plot(evaluations, path):
    """Difference of CSA (ours minus reference) over their mean, a point a slice."""
    from sctseg7t.measure.statistics import bland_altman

    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2))
    for axis, tissue in zip(axes, ("SC", "GM")):
        for n, e in enumerate(evaluations):
            ours, reference = e.areas("ours", tissue)
            axis.scatter(
                (ours + reference) / 2, ours - reference, 22, SCANS[n % 5], marker=MARKERS[n % 5], label=e.name
            )
        found = bland_altman(*np.concatenate([e.areas("ours", tissue) for e in evaluations], 1))
        for value, style, name in (
            (found.bias, "-", "bias"),
            (found.lower, "--", "-1.96 SD"),
            (found.upper, "--", "+1.96 SD"),
        ):
            axis.axhline(value, color="0.3", linestyle=style, linewidth=1)
            axis.annotate(
                f"{name}\n{value:+.1f}",
                (1, value),
                (4, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                fontsize=8,
            )
        axis.axhline(0, color="0.8", linewidth=1, zorder=0)
        axis.set(title=tissue, xlabel="mean of both CSA (mm²)", ylabel="CSA ours - reference (mm²)")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=5, fontsize=8, frameon=False)
    _save(figure, path, bottom=0.06)


def dice_strips(evaluations, path):
    """Dice of every slice by scan; a bar marks the Dice of the whole scan."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.2), gridspec_kw={"width_ratios": (1, 1.6)})
    rng = np.random.default_rng(0)
    for axis, tissue in zip(axes, ("SC", "GM")):
        people = [who for who in ("ours", "peer") if (who, tissue) in evaluations[0].slices]
        for who, offset in zip(people, (-0.18, 0.18) if len(people) > 1 else (0.0,)):
            colour, marker = (OURS[tissue], "o") if who == "ours" else ("0.55", "^")
            label = who if who == "ours" else "sct_deepseg_gm's recipe"
            for n, e in enumerate(evaluations):
                dice = np.array([a.dice for a in e.slices[who, tissue] if a.reference_size])
                x = n + offset + rng.uniform(-0.09, 0.09, len(dice))
                name = None if n else label
                axis.scatter(x, dice, 14, colour, marker=marker, alpha=0.7, linewidths=0, label=name)
                whole = e.volumes[who, tissue].dice
                axis.plot([n + offset - 0.15, n + offset + 0.15], [whole, whole], color="black", linewidth=1.8)
        axis.axhline(0.7, color="0.7", linestyle=":", linewidth=1)
        axis.set_xticks(range(len(evaluations)), [e.name for e in evaluations], fontsize=8)
        axis.set(title=tissue, ylabel="Dice (points: slices, bars: scan)")
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[1].get_legend_handles_labels(), loc="lower center", ncols=2, fontsize=8, frameon=False)
    _save(figure, path, bottom=0.06)


def _panel(axis, evaluation, k, tissues, window_mm):
    """One slice around the reference cord, right side of the image to the right."""
    volume = evaluation.result.volume
    where = np.argwhere(evaluation.masks["reference", "SC"][..., k])
    if not len(where):
        where = np.argwhere(evaluation.masks["reference", "SC"].any(2))
    centre, half = where.mean(0), [window_mm / 2 / s for s in volume.spacing_mm[:2]]
    box = tuple(slice(max(int(c - h), 0), int(c + h) + 1) for c, h in zip(centre, half))
    data = volume.data[..., k, 0][box]
    # Around GM the grey scale is the cord's own, which bright CSF would squeeze to nothing.
    cord = evaluation.masks["reference", "SC"][..., k][box]
    narrow = window_mm == WINDOW_MM["GM"] and cord.any()
    low, high = np.percentile(data[cord], (0.5, 99.5)) if narrow else np.percentile(data, (1, 99))
    axis.imshow(data.T, cmap="gray", origin="lower", vmin=low, vmax=high, aspect=_aspect(volume))
    for tissue in tissues:
        for who, colours, width, style in (("ours", OURS, 1.6, "solid"), ("reference", REFERENCE, 1.1, "dashed")):
            mask = evaluation.masks[who, tissue][..., k][box]
            if mask.any():
                axis.contour(mask.T, [0.5], colors=colours[tissue], linewidths=width, linestyles=style)


def _aspect(volume):
    return volume.spacing_mm[1] / volume.spacing_mm[0]


def _score(evaluation, tissue, k):
    return f"{tissue} {evaluation.slices['ours', tissue][k].dice:.2f}"


def _legend(figure, tissues):
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=OURS[t], linewidth=1.8, label=f"{t} ours") for t in tissues]
    lines += [Line2D([], [], color=REFERENCE[t], linestyle="dashed", label=f"{t} reference") for t in tissues]
    figure.legend(handles=lines, loc="lower center", ncols=4, fontsize=9, facecolor="0.35", labelcolor="white")


def _save(figure, path, bottom=0.04):
    figure.tight_layout(rect=(0, bottom, 1, 1))
    figure.savefig(path, dpi=90)
    plt.close(figure)
