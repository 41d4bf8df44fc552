"""The verified weights of a model: the files that sessions load."""

from pathlib import Path

from sctseg7t.zoo.spec import ModelSpec


def weights(spec: ModelSpec, *, offline: bool = False) -> Path:
    """Return the path of a model's verified weights.

    Keras weights become ONNX first, once (:func:`sctseg7t.zoo.convert.converted`).

    Parameters
    ----------
    spec : ModelSpec
        From the zoo, or given by path (:func:`sctseg7t.zoo.local_model.spec_from_onnx`).
    offline : bool
        As for :func:`sctseg7t.zoo.download.fetch`.

    Raises
    ------
    DownloadError
        The file cannot be had.
    ModelError
        The file changed since its entry was read, or cannot be converted.
    """
    if spec.local_path:
        from sctseg7t.zoo.local_model import spec_from_onnx

        # To notice a change.
        spec_from_onnx(spec.local_path)
        return spec.local_path
    if spec.is_foreign:
        from sctseg7t.zoo.convert import converted

        return converted(spec, offline=offline)
    from sctseg7t.zoo.download import fetch

    return fetch(spec.files[0], offline=offline)


def all_weights(spec: ModelSpec, *, offline: bool = False) -> list[Path]:
    """Paths of every network of a model; parameters and errors as of :func:`weights`."""
    from sctseg7t.zoo.download import fetch

    return [weights(spec, offline=offline), *(fetch(file, offline=offline) for file in spec.networks[1:])]
