"""Random pairs of masks, and the agreement measures of SimpleITK and MONAI under our names."""

import numpy as np

KINDS = ("empty", "voxel", "speckle", "speckle", "blob", "blob", "border", "all")


def random_pairs(count, seed=0):
    """Yield (reference, mask), spacing in mm, kinds: in 2D and 3D by turns, small, every kind with every other.

    Every third grid is isotropic; in the others voxels differ along the axes, in 3D up to tenfold.
    """
    rng = np.random.default_rng(seed)
    for n in range(count):
        ndim = 2 + n % 2
        shape = tuple(int(size) for size in rng.integers(4, 14, ndim))
        spacing = [float(rng.uniform(0.2, 1.0))] * ndim if n % 3 == 0 else rng.uniform(0.2, 1.0, ndim)
        if n % 3 == 2:
            spacing[-1] *= 5
        kinds = [KINDS[k] for k in rng.integers(0, len(KINDS), 2)]
        yield tuple(_mask(rng, shape, kind) for kind in kinds), tuple(float(s) for s in spacing), tuple(kinds)


def _mask(rng, shape, kind):
    mask = np.full(shape, kind == "all")
    if kind == "voxel":
        mask[tuple(rng.integers(0, shape))] = True
    elif kind == "speckle":
        mask = rng.random(shape) < rng.uniform(0.05, 0.9)
    elif kind in ("blob", "border"):
        grid = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
        centre, radius = rng.uniform(0, shape), rng.uniform(1, 7)
        mask = sum((g - c) ** 2 for g, c in zip(grid, centre)) <= radius**2
        if kind == "border":
            mask[0] = True
    return mask


def by_simpleitk(reference, mask, spacing, tolerance_mm):
    """Measures of two masks that are not empty.

    Overlap by LabelOverlapMeasures, sizes by LabelShapeStatistics, the Hausdorff distances and the mean of the
    directed averages by HausdorffDistance (of the masks, or of their contours), the others from the
    Maurer distance maps of masks and contours.
    """
    import SimpleITK as sitk

    images = [_image(m, spacing) for m in (reference, mask)]
    contours = [_contour(m, spacing) for m in (reference, mask)]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    # The reference is ITK's second argument; its volume similarity is signed and twice as large.
    overlap.Execute(images[1], images[0])
    whole, edges = sitk.HausdorffDistanceImageFilter(), sitk.HausdorffDistanceImageFilter()
    whole.Execute(*images)
    edges.Execute(*contours)
    sizes = [_size(image) for image in images]
    surface = [_to(contours[1], contours[0]), _to(contours[0], contours[1])]
    everywhere = [_to(images[1], images[0]).mean(), _to(images[0], images[1]).mean()]
    return {
        "dice": overlap.GetDiceCoefficient(),
        "jaccard": overlap.GetJaccardCoefficient(),
        "sensitivity": 1 - overlap.GetFalseNegativeError(),
        "precision": 1 - overlap.GetFalseDiscoveryRate(),
        "volumetric_similarity": 1 - abs(overlap.GetVolumeSimilarity()) / 2,
        "hausdorff_mm": edges.GetHausdorffDistance(),
        "hausdorff_all_mm": whole.GetHausdorffDistance(),
        "hausdorff95_mm": max(np.percentile(d, 95) for d in surface),
        "assd_mm": np.concatenate(surface).mean(),
        "average_hausdorff_max_mm": max(everywhere),
        "average_hausdorff_mean_mm": whole.GetAverageHausdorffDistance(),
        "normalised_surface_dice": (np.concatenate(surface) <= tolerance_mm).mean(),
        "reference_size": sizes[0],
        "mask_size": sizes[1],
        "size_difference": sizes[1] - sizes[0],
        "size_difference_percent": 100 * (sizes[1] / sizes[0] - 1),
    }


def _image(mask, spacing):
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(mask.astype(np.uint8).transpose())
    image.SetSpacing(spacing)
    return image


def _contour(mask, spacing):
    """ITK's contour, with the image's border counting as outside."""
    import SimpleITK as sitk

    margin = [1] * mask.ndim
    padded = sitk.ConstantPad(_image(mask, spacing), margin, margin, 0)
    return sitk.Crop(sitk.LabelContour(padded, fullyConnected=False), margin, margin)


def _to(image, points):
    """Distance of each voxel of `points` to the nearest of `image`."""
    import SimpleITK as sitk

    found = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    inside = sitk.GetArrayViewFromImage(points) > 0
    return np.maximum(sitk.GetArrayViewFromImage(found)[inside], 0)


def _size(image):
    import SimpleITK as sitk

    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(image)
    return shape.GetPhysicalSize(1)


def by_monai(reference, mask, spacing, tolerance_mm):
    """Measures of two masks, which may be empty: MONAI's values for those, where they are ours too.

    Left out with an empty mask: HD95 (nan of infinities); with two: Dice (1 by choice).
    """
    import torch
    from monai import metrics

    pair = [torch.from_numpy(m)[None, None] for m in (mask, reference)]
    options = {"include_background": True, "spacing": spacing}
    confusion = metrics.get_confusion_matrix(*(m.float() for m in pair), include_background=True)
    found = {
        "jaccard": metrics.compute_iou(*pair, include_background=True, ignore_empty=False),
        "sensitivity": metrics.compute_confusion_matrix_metric("sensitivity", confusion),
        "precision": metrics.compute_confusion_matrix_metric("precision", confusion),
        "hausdorff_mm": metrics.compute_hausdorff_distance(*pair, **options),
        "assd_mm": metrics.compute_average_surface_distance(*pair, symmetric=True, **options),
        "normalised_surface_dice": metrics.compute_surface_dice(*pair, [tolerance_mm], **options),
    }
    if reference.any() or mask.any():
        found["dice"] = metrics.compute_dice(*pair, include_background=True, ignore_empty=False)
    else:
        del found["jaccard"]
    if reference.any() and mask.any():
        found["hausdorff95_mm"] = metrics.compute_hausdorff_distance(*pair, percentile=95, **options)
    return {name: float(value) for name, value in found.items()}
