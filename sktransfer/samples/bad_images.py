"""Find images that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from joblib import Parallel, delayed

from sktransfer.exceptions import InvalidSample, InvalidSampleError
from sktransfer.samples.base import to_invalid_sample
from sktransfer.samples.images import ImageSamples, check_images
from sktransfer.samples.labels import row_labels

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["find_bad_images"]

_BLOCK = 64  # images per task of a worker thread


def find_bad_images(X: Any, *, image_shape: tuple[int, ...] | None = None, n_jobs: int | None = None) -> pd.DataFrame:
    """List the images that cannot be used, with reasons. Every image is decoded as an estimator would decode it.

    Parameters
    ----------
    X : array-like, Series, one-column DataFrame or list of n_samples
        Images of any kind that `ImageFeaturizer` takes.
    image_shape : tuple of int, default=None
        Shape (height, width) or (height, width, channels) of images given as flat rows.
    n_jobs : int, default=None
        Number of threads. None means one, and -1 one per core.

    Returns
    -------
    table : DataFrame
        One row per image that cannot be used, with the columns row (in X, from 0), path (None for images that are not
        files) and reason. If X is a pandas object whose index is not the default one, also label (in the index).

    Raises
    ------
    ValueError
        If X is empty, a single sample, or has several columns.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from sktransfer import find_bad_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [str(Path(folder, name)) for name in ("good.png", "page.jpg", "nowhere.jpg")]
    ...     Image.new("RGB", (8, 8)).save(paths[0])
    ...     _ = Path(paths[1]).write_text("<html>404 Not Found</html>")
    ...     bad = find_bad_images(paths)
    >>> bad["row"].tolist()
    [1, 2]
    >>> print(bad["reason"][0])  # doctest: +ELLIPSIS
    is not an image that Pillow can read, it is HTML or XML (it begins with b'<html>404 Not Found</htm'), a download ...
    """
    import pandas as pd

    samples = check_images(X, image_shape=image_shape, defer=True)
    samples.labels = row_labels(X)
    parts = [range(start, min(start + _BLOCK, len(samples))) for start in range(0, len(samples), _BLOCK)]
    failures = Parallel(n_jobs=n_jobs, prefer="threads")(delayed(_find_failures)(samples, rows) for rows in parts)
    table = pd.DataFrame([failure for part in failures for failure in part], columns=InvalidSample._fields)
    return table.drop(columns="label") if samples.labels is None else table


def _find_failures(samples: ImageSamples, rows: Sequence[int]) -> list[InvalidSample]:
    failures = []
    for row in rows:
        try:
            samples.load(row)
        except InvalidSampleError as error:
            failures.append(to_invalid_sample(error, samples.path(row)))
    return failures
