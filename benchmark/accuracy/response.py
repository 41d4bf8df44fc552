"""Response: does a measured area follow the true one? On scans into which gray matter of known area is painted.

    python benchmark/accuracy/response.py [-data ../shared/data] [-m MODEL ...] [-quick] [-o DIR]

Into every development scan gray matter is painted with the slice's own contrast and noise, its outline moved in and
out; the cord is made smaller and larger (benchmark/accuracy/painted.py). Printed by model, for GM, WM and SC: the slope
of measured against true area (1: it follows; 0: it says what a cord usually holds), the bias where nothing was moved,
the spread about the line, and the area drawn where the gray matter was erased. Then the same under other
contrasts, noise, pixels and forms, on simulated scans, and the smallest change that scan and rescan can show.

"Development scans": they were looked at while the tool was made, so these figures are not those of unseen data.
"""

import argparse
import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
from painted import Paint, paint, scaled_cord
from perturb import Case, resampled
from scans import canonical, scans

from sctseg7t.report.results_page import figure, name_models
from sctseg7t.report.results_page import run as run_with_page

MOVES_PX = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6)
SIZES_PERCENT = (-10, -5, 0, 5, 10)
OURS, PEER = "cord_gm_sc", "sct_gm_large"
# Both at once for a two-sided 5 % error and a power of 80 %.
POWER = 1.96 + 0.84

CONDITIONS = {
    "as it is": (Paint(), None),
    "contrast x 0.5": (Paint(contrast=0.5), None),
    "contrast x 2": (Paint(contrast=2.0), None),
    "GM darker than WM": (Paint(contrast=-1.0), None),
    "noise 10 % of WM": (Paint(noise=0.1), None),
    "pixels of 0.3 mm": (Paint(), 0.3),
    "pixels of 0.7 mm": (Paint(), 0.7),
    "front horns alone": (Paint("front horns"), None),
    "one side alone": (Paint("one side"), None),
}


@dataclasses.dataclass(frozen=True)
class Line:
    """Measured against true area over steps of one scan: (steps, slices) arrays of mm2."""

    true: np.ndarray
    measured: np.ndarray

    @property
    def means(self):
        """Scan means of true and measured area by step."""
        return self.true.mean(1), self.measured.mean(1)

    @property
    def fit(self):
        """Slope and intercept (mm2) of the scan's means."""
        return np.polyfit(*self.means, 1)

    @property
    def slice_slopes(self):
        """Slope of each slice."""
        return np.array([np.polyfit(t, m, 1)[0] for t, m in zip(self.true.T, self.measured.T)])

    @property
    def spread(self):
        """SD (mm2) about the line of a slice, and of the scan's means."""
        lines = [m - np.polyval(np.polyfit(t, m, 1), t) for t, m in zip(self.true.T, self.measured.T)]
        t, m = self.means
        free = len(t) - 2
        per_scan = np.sqrt(((m - np.polyval(self.fit, t)) ** 2).sum() / free)
        return float(np.sqrt((np.array(lines) ** 2).sum(1).mean() / free)), float(per_scan)

    @property
    def middle(self):
        """Bias (%) of the scan's mean at the middle step, where the size is the reference's."""
        t, m = (values[len(values) // 2] for values in self.means)
        return 100 * (m / t - 1)


def measure(segmenter, painted):
    """Areas (mm2) of each tissue found, (Z,); none: 0), and which slices are flagged."""
    result = segmenter.run(painted.case.image)
    area = float(np.prod(painted.case.spacing_mm[:2]))
    found = {name: canonical(mask).sum((0, 1)) * area for name, mask in result.masks.items()}
    flagged = np.zeros(painted.case.data.shape[2], bool)
    for row in result.tables[0].rows if result.tables else ():
        flagged[row.slice] |= row.tissue == "GM" and bool(row.flags)
    return {**found, "flagged": flagged}


def gm_line(case, segmenter, how=Paint(), to_mm=None, moves_px=MOVES_PX):
    """GM's (and, with a cord, WM's) lines over moves of its outline: dict of str to Line."""
    steps = []
    for moved in moves_px:
        one = paint(case, moved, how)
        shown = dataclasses.replace(one, case=resampled(one.case, to_mm)) if to_mm else one
        steps.append((one, measure(segmenter, shown)))
    return _lines(steps, ("GM", "WM"))


def sc_line(case, segmenter, sizes_percent=SIZES_PERCENT):
    """SC's, GM's and WM's lines over sizes of the cord."""
    made = [scaled_cord(case, percent) for percent in sizes_percent]
    return _lines([(one, measure(segmenter, one)) for one in made], ("SC", "GM", "WM"))


def _lines(steps, names):
    known = ~np.isnan(steps[0][0].gm_mm2)
    true = {"GM": lambda p: p.gm_mm2, "SC": lambda p: p.sc_mm2, "WM": lambda p: p.sc_mm2 - p.gm_mm2}
    return {
        name: Line(
            np.array([true[name](painted)[known] for painted, _ in steps]),
            np.array([found[name][known] for _, found in steps]),
        )
        for name in names
        if name in steps[0][1]
    }


def erased(case, segmenter):
    """GM (mm2) drawn in a scan whose GM was erased, mean of its slices, and the share of slices without or flagged."""
    painted = paint(case, None)
    found, known = measure(segmenter, painted), ~np.isnan(painted.gm_mm2)
    gm, told = found["GM"][known], found["flagged"][known]
    return float(gm.mean()), float((gm == 0).mean()), float(((gm == 0) | told).mean())


def repeatability(found, segmenter):
    """Within-subject SD (mm2) and mean of a scan's mean area over scan and rescan, by tissue."""
    pairs = {}
    for scan in found:
        if scan.rescan is None:
            continue
        runs = [segmenter.run(path) for path in (scan.image, scan.rescan)]
        for name in runs[0].masks:
            areas = [canonical(run.masks[name]).sum((0, 1)) * np.prod(run.volume.spacing_mm[:2]) for run in runs]
            pairs.setdefault(name, []).append([float(a[a > 0].mean()) for a in areas])
    return {
        name: (float(np.sqrt((np.diff(values) ** 2).mean() / 2)), float(np.mean(values)))
        for name, values in pairs.items()
    }


def smallest_change(sd, slope, count=1):
    """Smallest true change (mm2) that shows: of one scan pair (95 % limits), or in the mean of so many people."""
    if count == 1:
        return 1.96 * np.sqrt(2) * sd / slope
    return POWER * np.sqrt(2 / count) * sd / slope


# --- what is printed ---------------------------------------------------------------------

HEAD = f"{'slope':>6} {'slice':>6} {'least':>6} {'intercept':>9} {'middle %':>8} {'SD slice':>8} {'SD scan':>8}"


def print_line(name, line):
    """One row: slope of the scan's means, of its slices (mean, least), intercept, bias in the middle, spread."""
    slope, intercept = line.fit
    slices = line.slice_slopes
    print(
        f"    {name:34} {slope:6.2f} {slices.mean():6.2f} {slices.min():6.2f} {intercept:9.2f} {line.middle:+8.1f} "
        f"{line.spread[0]:8.2f} {line.spread[1]:8.2f}",
        flush=True,
    )


def print_range(lines):
    """True and measured area from the smallest to the largest step, means of the scans."""
    for tissue in ("GM",):
        true, measured = (np.mean([values for values in part], 0) for part in zip(*(line.means for line in lines)))
        steps = "  ".join(f"{t:.1f} -> {m:.1f}" for t, m in zip(true, measured))
        print(f"    {tissue} mm2, true -> measured, mean of the scans: {steps}")


def of_model(found, name, segmenter, quick):
    """Print all tables of a model; returns {tissue: [Line of each scan]} as painted and as scaled."""
    cases = {scan.name: Case.load(scan) for scan in found}
    print(f"\n{name}\n{'GM painted, development scans':38} {HEAD}")
    lines = {}
    for scan, case in cases.items():
        lines[scan] = gm_line(case, segmenter, moves_px=MOVES_PX[::3] if quick else MOVES_PX)
        print_line(f"{scan} ({case.spacing_mm[0]:.2f} mm)", lines[scan]["GM"])
    gm = [line["GM"] for line in lines.values()]
    print(f"    {'mean slope of GM':34} {np.mean([line.fit[0] for line in gm]):6.2f}")
    print_range(gm)
    for scan, case in cases.items():
        area, none, told = erased(case, segmenter)
        print(f"    erased, {scan:10}: GM drawn {area:5.2f} mm2; none on {none:4.0%}, none or flagged on {told:4.0%}")
    has_cord = "WM" in next(iter(lines.values()))
    cord = {}
    if has_cord:
        wm = np.mean([line["WM"].fit[0] for line in lines.values()])
        print(f"    {'mean slope of WM as GM is painted':34} {wm:6.2f}")
        print(f"{'cord scaled -10 to +10 %':38} {HEAD}")
        for scan, case in cases.items():
            cord[scan] = sc_line(case, segmenter, SIZES_PERCENT[::2] if quick else SIZES_PERCENT)
            print_line(f"SC {scan}", cord[scan]["SC"])
        for tissue in ("SC", "GM", "WM"):
            mean = np.mean([line[tissue].fit[0] for line in cord.values()])
            print(f"    {f'mean slope of {tissue}':34} {mean:6.2f}")
    if not quick:
        print(f"{'GM painted otherwise, mean of scans':38} {'slope':>6} {'least':>6} {'middle %':>8}")
        for label, (how, to_mm) in list(CONDITIONS.items())[1:]:
            made = [gm_line(case, segmenter, how, to_mm)["GM"] for case in cases.values()]
            slopes = [line.fit[0] for line in made]
            middle = np.mean([line.middle for line in made])
            print(f"    {label:34} {np.mean(slopes):6.2f} {min(slopes):6.2f} {middle:+8.1f}", flush=True)
    print_changes(found, segmenter, gm, [line["SC"] for line in cord.values()])
    return lines, cord


def print_changes(found, segmenter, gm, sc):
    """Scan and rescan, and the smallest true change that they show."""
    repeated = repeatability(found, segmenter)
    slopes = {"GM": np.mean([line.fit[0] for line in gm])}
    if sc:
        slopes["SC"] = np.mean([line.fit[0] for line in sc])
    for tissue, slope in slopes.items():
        sd, mean = repeated[tissue]
        one, many = smallest_change(sd, slope), smallest_change(sd, slope, 20)
        changes = ", ".join(
            f"{who} {change:.2f} mm2 ({100 * change / mean:.1f} %)"
            for who, change in (("one person", one), ("mean of 20", many))
        )
        print(
            f"    {tissue}: scan-rescan SD {sd:.2f} mm2 (CoV {100 * sd / mean:.2f} %); smallest true change: {changes}"
        )


def draw(results):
    """Figure: measured against true GM area, each scan a line, a panel a model."""
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(1, len(results), figsize=(4 * len(results), 4), squeeze=False, sharey=True)
    for panel, (name, (lines, _)) in zip(axes[0], results.items()):
        for scan, line in lines.items():
            panel.plot(*line["GM"].means, "o-", ms=3, label=scan)
        panel.plot([0, 30], [0, 30], color="0.7", lw=1, zorder=0)
        panel.set(title=name, xlabel="true GM area (mm$^2$)", xlim=(0, 30), ylim=(0, 30), aspect="equal")
    axes[0, 0].set_ylabel("measured GM area (mm$^2$)")
    axes[0, 0].legend(frameon=False, fontsize=9)
    drawn.tight_layout()
    return drawn


def picture(found):
    """Figure of a real slice, and as painted: smaller, as it is, larger, erased."""
    import matplotlib.pyplot as plt

    drawn, axes = plt.subplots(len(found), 6, figsize=(12, 2 * len(found)))
    for row, scan in zip(axes, found):
        case = Case.load(scan)
        k = int(np.argmax(case.gm.sum((0, 1))))
        x, y = np.rint(np.argwhere(case.sc[..., k]).mean(0)).astype(int)
        half = int(round(10 / case.spacing_mm[0]))
        cut = slice(max(x - half, 0), x + half), slice(max(y - half, 0), y + half), k
        shown = [case.data[cut], *(paint(case, m).case.data[cut] for m in (-0.6, -0.3, 0.0, 0.6, None))]
        low, high = np.percentile(shown[0], (1, 99))
        for panel, image, title in zip(row, shown, ("real", "-0.6 px", "-0.3", "0", "+0.6", "erased")):
            panel.imshow(image.T, cmap="gray", origin="lower", vmin=low, vmax=high)
            panel.set(xticks=[], yticks=[])
            panel.set_title(f"{scan.name} {title}", fontsize=10)
    drawn.tight_layout()
    return drawn


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", default="../shared/data", help="folder of the development data")
    p.add_argument("-m", "--model", nargs="+", default=[OURS, PEER], help="models of the zoo or .onnx files")
    p.add_argument("-quick", action="store_true", help="fewer steps, and no other contrasts and forms")
    p.add_argument("-threads", type=int, help="CPU threads")
    p.add_argument("-o", "--output", help="folder for the figures")
    args = p.parse_args(argv)
    os.environ.setdefault("SCT7T_MIRROR", str(Path(args.data).absolute() / "peers"))
    from sctseg7t.errors import UserError
    from sctseg7t.inference.pipeline import open_segmenter

    results = {}
    try:
        found = scans(args.data)
        for model in args.model:
            segmenter = open_segmenter(None, model, "cpu", threads=args.threads)
            name_models(segmenter.model.spec)
            results[Path(model).name.removesuffix(".onnx")] = of_model(found, model, segmenter, args.quick)
    except (UserError, ValueError) as error:
        print(f"response: {error}", file=sys.stderr)
        return 2
    drawn = {
        "response": (draw(results), "Measured against true GM area, each scan a line."),
        "response_painted": (
            picture(found),
            "A slice of each scan: real, GM painted smaller, as it is, larger, erased.",
        ),
    }
    for name, (own, text) in drawn.items():
        figure(own, name, text, dpi=100)
        if args.output:
            Path(args.output).mkdir(parents=True, exist_ok=True)
            own.savefig(Path(args.output) / f"{name}.png", dpi=100)
    return 0


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Response: do the areas follow?"))
