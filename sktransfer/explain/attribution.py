"""Attributions of an output to positions of an image or words of a text. Captum computes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from sktransfer._validation import check_int, check_option
from sktransfer.backbones.pooling import as_maps, pool
from sktransfer.backbones.stages import PooledHead, run_stages
from sktransfer.exceptions import InvalidParameterError
from sktransfer.explain.as_module import EstimatorModule, as_module, convert
from sktransfer.explain.layers import Affine, SelectedColumns, Standardized, TwoColumns
from sktransfer.tasks.heads import FeatureHead

__all__ = ["METHODS", "ClassMaps", "WordAttributions", "class_maps", "word_attributions"]

METHODS = ("integrated_gradients", "gradient_x_input")
_LINEAR_POOLINGS = ("average", "flatten", "grid2", "grid3")
_LINEAR_LAYERS = (
    nn.Linear,
    nn.Identity,
    nn.Dropout,
    nn.Flatten,
    Affine,
    FeatureHead,
    SelectedColumns,
    Standardized,
    TwoColumns,
)
_AT_ONCE = 64  # interpolated texts per pass


@dataclass(frozen=True)
class ClassMaps:
    """Maps of an output over the positions of a layer.

    Parameters
    ----------
    maps : ndarray of shape (n_samples, height, width)
        Evidence for the target at each position, negative for evidence against it.
    images : ndarray of shape (n_samples, height, width, 3)
        Images as the network reads them, in [0, 1].
    targets : list or None
        Class of each map, or the index of one of several numbers. None for a single number.
    outputs : ndarray of shape (n_samples,)
        Logit or number that each map is about.
    layer : str
        Name of the stage, or of the stages whose maps are added up.
    is_exact : bool
        Whether a map adds up to the output, without the part that no position has.
    is_class : bool
        True for classes, and False for numbers.
    """

    maps: np.ndarray
    images: np.ndarray
    targets: list[Any] | None
    outputs: np.ndarray
    layer: str
    is_exact: bool
    is_class: bool


@dataclass(frozen=True)
class WordAttributions:
    """Attributions of an output to the words of texts.

    Parameters
    ----------
    texts : list of str
        Texts.
    words : list of DataFrame
        Per text one row per word that the network read: "word", "start", "stop" (positions in the text) and "value".
    targets : list or None
        Class of each text, or the index of one of several numbers. None for a single number.
    outputs : ndarray of shape (n_samples,)
        Logit or number that is attributed.
    is_class : bool
        True for classes, and False for numbers.
    """

    texts: list[str]
    words: list[pd.DataFrame]
    targets: list[Any] | None
    outputs: np.ndarray
    is_class: bool


def class_maps(estimator: Any, X: Any, *, target: Any = None, layer: int | str | None = None) -> ClassMaps:
    """Return where in images the evidence for a class lies.

    If a linear head reads averages of the maps of some layers, the output is a sum over their positions, and the map
    holds the summands. This is the class activation map [1]_. Maps of several layers are added up on the finest grid. A
    coarser cell is shared by area among the finer ones that it covers. Elsewhere the map is the product of values and
    gradients, added up over channels, or Grad-CAM [2]_ for a given `layer` of maps.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator of images that `as_module` takes.
    X : array-like, Series, one-column DataFrame or list of n_samples
        Images.
    target : label or array-like of n_samples, default=None
        Class of all images, or one per image. None for the predicted class. For numbers the index of an output.
    layer : int or str, default=None
        Stage whose positions are shown. None for all stages that the head reads, added up. Below a class token, it is
        the stage that the token was computed from.

    Returns
    -------
    maps : ClassMaps

    Raises
    ------
    ImportError
        If captum is not installed.
    InvalidParameterError
        If the estimator reads no images or has no outputs to explain, or the layer has no positions.

    References
    ----------
    .. [1] B. Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
    .. [2] R. Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
       ICCV 2017.
    """
    attr = _captum()
    module = _module_of(estimator, "image")
    pixels = module.preprocess(X)
    assert isinstance(pixels, Tensor)
    outputs, columns, targets = _choose_targets(module, (pixels,), target)
    images = _visible(pixels, module.backbone.preprocess)
    is_sum = _is_sum_over_positions(module)
    if layer is None and module.head is None and not _reads_class_token(module):
        maps, name = _maps_of_all_layers(module, pixels, columns)
        return ClassMaps(maps, images, targets, outputs, name, is_sum, module.classes_ is not None)
    index = _map_stage(module) if layer is None else module.backbone.position(layer)
    if index >= len(module.stages):
        raise InvalidParameterError(f"layer={layer!r} is above the last stage that is read, {module.stage_names[-1]!r}")
    is_only = module.head is not None or len(module.layers) == 1
    stage, is_exact = module.stages[index], index == len(module.stages) - 1 and is_only and is_sum
    with torch.no_grad():
        shape = attr.LayerActivation(module, stage).attribute(pixels[:1]).shape
    if len(shape) not in (3, 4):
        raise _without_positions(module.stage_names[index])
    method = attr.LayerGradCam if len(shape) == 4 and not is_exact else attr.LayerGradientXActivation
    values = method(module, stage).attribute(pixels, target=columns).detach()  # (n, channels, height, width) or tokens
    maps = as_maps(values, module.backbone.prefix_tokens).sum(1).numpy()  # (n, height, width)
    name = module.stage_names[index]
    return ClassMaps(maps, images, targets, outputs, name, is_exact, module.classes_ is not None)


def word_attributions(
    estimator: Any, X: Any, *, target: Any = None, method: str = "integrated_gradients", n_steps: int = 32
) -> WordAttributions:
    """Return which words of texts speak for a class.

    Attributions are computed at the output of the first stage, added up over channels and over the tokens of a word.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator of texts that `as_module` takes.
    X : array-like, Series, one-column DataFrame or list of n_samples
        Texts.
    target : label or array-like of n_samples, default=None
        Class of all texts, or one per text. None for the predicted class. For numbers the index of an output.
    method : {"integrated_gradients", "gradient_x_input"}, default="integrated_gradients"
        Integrated gradients [1]_ add up to the difference from the output of a text of padding tokens of the same
        length, up to the error of `n_steps`. Gradient times input takes one pass.
    n_steps : int, default=32
        Steps of the integral.

    Returns
    -------
    attributions : WordAttributions

    Raises
    ------
    ImportError
        If captum is not installed.
    InvalidParameterError
        If the estimator reads no texts or has no outputs to explain, or its tokenisation tells no words.

    References
    ----------
    .. [1] M. Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017.
    """
    check_option("method", method, METHODS)
    n_steps = check_int("n_steps", n_steps, minimum=1)
    attr = _captum()
    module = _module_of(estimator, "text")
    preprocess = module.backbone.preprocess
    if not hasattr(preprocess, "words"):
        raise InvalidParameterError(
            f"the tokenisation of {module.backbone.name}, a {type(preprocess).__name__}, does not tell which word a "
            "token belongs to: give it a method `words`, as that of sktransfer.backbones.tokens.Tokens"
        )
    samples = module.samples(X)
    texts, places = zip(*(preprocess.words(samples.load(row)) for row in range(len(samples))))
    batch = module.preprocess(X)
    assert isinstance(batch, tuple)
    ids, mask = batch  # (n, tokens) each
    outputs, columns, targets = _choose_targets(module, batch, target)
    options = {"target": columns, "additional_forward_args": (mask,)}
    if method == "integrated_gradients":
        is_word = torch.zeros_like(mask)
        for row, tokens in enumerate(places):
            is_word[row, : len(tokens)] = torch.tensor([token is not None for token in tokens])
        options |= {"baselines": ids.masked_fill(is_word, preprocess.pad_value), "n_steps": n_steps}
        integrated = attr.LayerIntegratedGradients(module, module.stages[0])
        values = integrated.attribute(
            ids, internal_batch_size=max(_AT_ONCE, len(ids)), **options
        )  # (n, tokens, channels)
    else:
        values = attr.LayerGradientXActivation(module, module.stages[0]).attribute(ids, **options)
    # (n, tokens, channels) -> (n, tokens)
    per_token = values.detach().sum(2).double().numpy()
    words = [_by_word(*parts) for parts in zip(texts, places, per_token)]
    return WordAttributions(list(texts), words, targets, outputs, module.classes_ is not None)


def _captum() -> Any:
    try:
        from captum import attr
    except ImportError as error:
        raise ImportError("attributions need captum: pip install 'captum>=0.9'") from error
    return attr


def _module_of(estimator: Any, modality: str) -> EstimatorModule:
    """Return the module from samples of a modality to logits or numbers."""
    gives = convert(estimator).gives
    if gives == "features":
        raise InvalidParameterError(
            f"{type(estimator).__name__} gives features, and an attribution explains a class or a number: add a "
            "classifier or a regressor to the pipeline"
        )
    module = as_module(estimator, output=gives)
    if module.backbone.modality != modality:
        raise InvalidParameterError(
            f"{type(estimator).__name__} reads {module.backbone.modality}s, and these attributions are of {modality}s"
        )
    return module


def _choose_targets(
    module: EstimatorModule, batch: tuple[Tensor, ...], target: Any
) -> tuple[np.ndarray, Tensor, list[Any] | None]:
    """Return the explained outputs (n,), their columns (n,), and the classes of these, None for a single number."""
    with torch.no_grad():
        outputs = module(*batch).numpy()  # (n, n_outputs)
    n, n_outputs = outputs.shape
    classes = list(range(n_outputs)) if module.classes_ is None else np.asarray(module.classes_).tolist()
    if target is None:
        columns = outputs.argmax(1)  # (n,)
    else:
        wanted = [target] * n if isinstance(target, str) or np.ndim(target) == 0 else np.asarray(target).tolist()
        wanted = [one.item() if isinstance(one, np.generic) else one for one in wanted]
        unknown = [one for one in wanted if one not in classes]
        if unknown or len(wanted) != n:
            raise InvalidParameterError(
                f"target={target!r} must be one of {classes}, or one of them for each of {n} samples"
            )
        columns = np.array([classes.index(one) for one in wanted])  # (n,)
    explained = outputs[np.arange(n), columns]  # (n,)
    is_named = module.classes_ is not None or n_outputs > 1
    return explained, torch.from_numpy(columns), [classes[column] for column in columns] if is_named else None


def _without_positions(name: str) -> InvalidParameterError:
    return InvalidParameterError(f"layer={name!r} gives one vector per image, without positions; choose a lower stage")


def _maps_of_all_layers(module: EstimatorModule, pixels: Tensor, columns: Tensor) -> tuple[np.ndarray, str]:
    """Return the sum of the maps of all layers that are read (n, height, width), and the names of their stages.

    The gradient is taken at what a layer gives to the head. What it gives to higher stages counts at those.
    """
    prefix, values = module.backbone.prefix_tokens, dict[int, Tensor]()
    with torch.no_grad():
        for stop, output in enumerate(run_stages(module.stages, pixels, None), start=1):
            if any(one.stop == stop for one in module.layers):
                values[stop] = output
    inputs = [values[one.stop].detach().requires_grad_() for one in module.layers]
    pooled = [pool(one, None, str(layer.pooling), prefix_tokens=prefix) for one, layer in zip(inputs, module.layers)]
    logits = module.body(torch.cat(pooled, 1))  # (n, n_outputs)
    slopes = torch.autograd.grad(logits.gather(1, columns[:, None]).sum(), inputs)
    parts, names = [], list[str]()
    for layer, slope, one in zip(module.layers, slopes, inputs):
        if one.ndim > 2:  # a vector has no positions
            parts.append(as_maps(slope * one.detach(), prefix).sum(1).numpy())  # (n, height, width)
            names.append(module.stage_names[layer.stop - 1])
    if not parts:
        raise _without_positions(module.stage_names[-1])
    height, width = (max(part.shape[axis] for part in parts) for axis in (1, 2))
    total = sum(_shared(part.shape[1], height) @ part @ _shared(part.shape[2], width).T for part in parts)
    stages = list(dict.fromkeys(names))
    named = " + ".join(stages) if len(stages) <= 4 else f"{len(stages)} stages from {stages[0]} to {stages[-1]}"
    return np.asarray(total, dtype=np.float32), named


def _shared(n_coarse: int, n_fine: int) -> np.ndarray:
    """Return the share of each coarse cell of an axis that each fine cell covers (n_fine, n_coarse)."""
    fine, coarse = np.linspace(0, n_coarse, n_fine + 1), np.arange(n_coarse + 1)
    stops = np.minimum(fine[1:, None], coarse[1:])  # (n_fine, n_coarse)
    starts = np.maximum(fine[:-1, None], coarse[:-1])  # (n_fine, n_coarse)
    shares: np.ndarray = np.maximum(stops - starts, 0.0)
    return shares


def _reads_class_token(module: EstimatorModule) -> bool:
    return any(one.pooling == "class_token" for one in module.layers)


def _map_stage(module: EstimatorModule) -> int:
    """Return the highest stage whose positions count: below a class token, the stage that it was computed from."""
    top = len(module.stages) - 1
    poolings = [one.pooling for one in module.layers if one.stop == top + 1]
    head = module.head
    if isinstance(head, PooledHead):
        poolings = [head.pooling]
    return top - 1 if poolings == ["class_token"] and top else top


def _is_sum_over_positions(module: EstimatorModule) -> bool:
    if module.head is not None:
        is_sum = isinstance(module.head, PooledHead) and module.head.pooling in _LINEAR_POOLINGS
        return is_sum and _is_linear(module.head.layers) and _is_linear(module.body)
    return all(one.pooling in _LINEAR_POOLINGS for one in module.layers) and _is_linear(module.body)


def _is_linear(layer: Any) -> bool:
    if isinstance(layer, nn.Sequential):
        return all(map(_is_linear, layer))
    return isinstance(layer, _LINEAR_LAYERS)


def _visible(pixels: Tensor, preprocess: Any) -> np.ndarray:
    """Return the pixels that the network reads as images (n, height, width, 3) in [0, 1]."""
    mean, std = getattr(preprocess, "mean", None), getattr(preprocess, "std", None)
    if mean is None or std is None:
        low, high = pixels.amin(), pixels.amax()
        values = (pixels - low) / (high - low).clamp_min(1e-12)
    else:
        values = pixels * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    images: np.ndarray = values.clamp(0, 1).permute(0, 2, 3, 1).numpy()  # (n, height, width, 3)
    return images


def _by_word(text: str, tokens: Any, values: np.ndarray) -> pd.DataFrame:
    """Return one row per word, with the sum of the values of its tokens."""
    rows: dict[int, list[Any]] = {}
    for token, value in zip(tokens, values):  # padding has no token
        if token is not None:
            word, start, stop = token
            row = rows.setdefault(word, [start, stop, 0.0])
            row[:] = [min(row[0], start), max(row[1], stop), row[2] + value]
    table = [(text[start:stop], start, stop, value) for start, stop, value in rows.values()]
    return pd.DataFrame(table, columns=["word", "start", "stop", "value"])
