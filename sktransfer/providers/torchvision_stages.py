"""Stages of each family of networks in torchvision.

A stage begins where resolution or width changes, and in transformers at every block. Cheap operations (a last 1x1
convolution, a norm, a pooling) belong to the stage before them. Transformations of the input and downsampling belong to
the stage after them. Values between stages are maps (n, channels, height, width), sequences (n, tokens, channels) or
vectors (n, channels), independent of the layout inside a network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models.squeezenet import Fire
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.ops import Permute

from sktransfer.backbones import ImageStage, PooledHead
from sktransfer.exceptions import InvalidParameterError, PluginError

__all__ = ["Cut", "FixedSize", "TokensOfImage", "TransformInput", "build", "cut"]


@dataclass(frozen=True)
class Cut:
    """A network divided into stages and a head, which share its tensors.

    Parameters
    ----------
    model : nn.Module
        Whole network.
    stages : sequence of (str, nn.Module)
        Named stages in order from the input, each called as `stage(values, mask=None)`.
    head : nn.Module
        From the last stage's values to logits, called as `head(values, mask=None)`.
    head_prefix : str
        Prefix of the names of the head's tensors in the network.
    pooling : str, default="average"
        Pooling of the last stage in the network.
    prefix_tokens : int, default=0
        Number of tokens before the patches.
    """

    model: nn.Module
    stages: Sequence[tuple[str, nn.Module]]
    head: nn.Module
    head_prefix: str
    pooling: str = "average"
    prefix_tokens: int = 0


def build(name: str, weights: Any) -> nn.Module:
    """Return a network that fits its pretrained weights, with random weights.

    Parameters
    ----------
    name : str
        Name in `torchvision.models.list_models()`.
    weights : torchvision.models.WeightsEnum
        Pretrained weights that the network has to fit. They are not downloaded.
    """
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # Auxiliary classifiers are used only in training from scratch.
        options = {"transform_input": True, "aux_logits": False, "init_weights": True}
    elif name.startswith("vit_"):
        options = {"image_size": weights.meta["min_size"][0]}
    model: nn.Module = models.get_model(name, weights=None, **options)
    return model


def cut(model: nn.Module) -> Cut:
    """Divide a network of torchvision into stages and a head.

    Parameters
    ----------
    model : nn.Module
        A classification network of torchvision.

    Returns
    -------
    parts : Cut

    Raises
    ------
    PluginError
        If the family of the network is not supported.

    Examples
    --------
    >>> from torchvision.models import resnet18
    >>> from sktransfer.providers.torchvision_stages import cut
    >>> [name for name, _ in cut(resnet18()).stages]
    ['stem', 'layer1', 'layer2', 'layer3', 'layer4']
    """
    if type(model) not in _FAMILIES:
        known = sorted(family.__name__ for family in _FAMILIES)
        raise PluginError(f"{type(model).__name__} cannot be divided into stages; supported are {known}")
    return _FAMILIES[type(model)](model)


def _split_after(modules: Iterable[nn.Module], kind: type[nn.Module]) -> list[list[nn.Module]]:
    """Return runs of modules, each of which ends with a module of a kind."""
    runs: list[list[nn.Module]] = [[]]
    for module in modules:
        runs[-1].append(module)
        if isinstance(module, kind):
            runs.append([])
    return runs if runs[-1] else runs[:-1]


def _join(model: nn.Module, stages: Mapping[str, str]) -> list[tuple[str, nn.Module]]:
    """Return stages that consist of named modules, given as a string with spaces between the names."""
    return [(stage, ImageStage(*map(model.get_submodule, names.split()))) for stage, names in stages.items()]


def _alexnet_or_vgg(model: Any) -> Cut:
    blocks = _split_after(model.features, nn.MaxPool2d)
    fc6, fc7, last = _split_after(model.classifier, nn.ReLU)
    stages = [(f"block{i}", ImageStage(*block)) for i, block in enumerate(blocks, start=1)]
    stages += [("fc6", ImageStage(model.avgpool, nn.Flatten(1), *fc6)), ("fc7", ImageStage(*fc7))]  # (n, 4096) each
    return Cut(model, stages, PooledHead(nn.Sequential(*last), "average"), "classifier.6.")


def _resnet(model: Any) -> Cut:
    layers = {layer: layer for layer in ("layer1", "layer2", "layer3", "layer4")}
    stages = _join(model, {"stem": "conv1 bn1 relu maxpool", **layers})
    return Cut(model, stages, PooledHead(model.fc, "average"), "fc.")


def _densenet(model: Any) -> Cut:
    names = {
        "stem": "conv0 norm0 relu0 pool0",
        "denseblock1": "denseblock1",
        "denseblock2": "transition1 denseblock2",
        "denseblock3": "transition2 denseblock3",
        "denseblock4": "transition3 denseblock4 norm5",
    }
    *stages, (last, stage) = _join(model.features, names)
    stages.append((last, ImageStage(stage, nn.ReLU())))
    return Cut(model, stages, PooledHead(model.classifier, "average"), "classifier.")


def _googlenet(model: Any) -> Cut:
    names = {"conv1": "conv1 maxpool1", "conv3": "conv2 conv3 maxpool2"}
    blocks = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
    names |= {f"inception{block}": f"inception{block}" for block in blocks}
    names["inception3b"] += " maxpool3"
    names["inception4e"] += " maxpool4"
    return _inception_of(model, _join(model, names))


def _inception_v3(model: Any) -> Cut:
    names = {
        "Conv2d_2b_3x3": "Conv2d_1a_3x3 Conv2d_2a_3x3 Conv2d_2b_3x3 maxpool1",
        "Conv2d_4a_3x3": "Conv2d_3b_1x1 Conv2d_4a_3x3 maxpool2",
    }
    blocks = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
    names |= {f"Mixed_{block}": f"Mixed_{block}" for block in blocks}
    return _inception_of(model, _join(model, names))


def _inception_of(model: Any, stages: list[tuple[str, nn.Module]]) -> Cut:
    if model.transform_input:
        name, first = stages[0]
        stages[0] = (name, ImageStage(TransformInput(), first))
    return Cut(model, stages, PooledHead(nn.Sequential(model.dropout, model.fc), "average"), "fc.")


def _mobilenet(model: Any) -> Cut:
    stem, *blocks, last = model.features
    groups = [list(group) for _, group in groupby(blocks, key=lambda block: block.out_channels)]
    groups[-1].append(last)
    stages = [("stem", ImageStage(stem))]
    stages += [(f"block{i}", ImageStage(*group)) for i, group in enumerate(groups, start=1)]
    return Cut(model, stages, PooledHead(model.classifier, "average"), "classifier.")


def _mnasnet(model: Any) -> Cut:
    first, last = 8, 14  # indices of the first stack of blocks and of the convolution after the sixth stack
    stages = [("stem", ImageStage(*model.layers[:first]))]
    stages += [(f"stack{i}", ImageStage(stack)) for i, stack in enumerate(model.layers[first : last - 1], start=1)]
    stages.append((f"stack{last - first}", ImageStage(*model.layers[last - 1 :])))
    return Cut(model, stages, PooledHead(model.classifier, "average"), "classifier.")


def _shufflenet(model: Any) -> Cut:
    names = {"stem": "conv1 maxpool", "stage2": "stage2", "stage3": "stage3", "stage4": "stage4 conv5"}
    return Cut(model, _join(model, names), PooledHead(model.fc, "average"), "fc.")


def _squeezenet(model: Any) -> Cut:
    groups: list[list[nn.Module]] = [[]]
    for module in model.features:
        if isinstance(module, Fire):
            groups.append([])
        groups[-1].append(module)
    stages = [("conv1", ImageStage(*groups[0]))]
    stages += [(f"fire{i}", ImageStage(*group)) for i, group in enumerate(groups[1:], start=2)]  # the paper's numbers
    return Cut(model, stages, ImageStage(model.classifier, nn.Flatten(1)), "classifier.")


def _efficientnet(model: Any) -> Cut:
    stem, *blocks, before, last = model.features
    stages = [("stem", ImageStage(stem))]
    stages += [(f"block{i}", ImageStage(block)) for i, block in enumerate(blocks, start=1)]
    stages.append((f"block{len(blocks) + 1}", ImageStage(before, last)))
    return Cut(model, stages, PooledHead(model.classifier, "average"), "classifier.")


def _regnet(model: Any) -> Cut:
    names = {name: f"trunk_output.{name}" for name, _ in model.trunk_output.named_children()}
    return Cut(model, _join(model, {"stem": "stem", **names}), PooledHead(model.fc, "average"), "fc.")


def _convnext(model: Any) -> Cut:
    stages = [(name, ImageStage(*modules)) for name, modules in _stem_and_stages(model.features)]
    # The norm follows the pooling, so it belongs to the head.
    return Cut(model, stages, ImageStage(model.avgpool, model.classifier), "classifier.")


def _swin(model: Any) -> Cut:
    inwards, outwards = Permute([0, 2, 3, 1]), Permute([0, 3, 1, 2])  # (n, height, width, channels) inside
    parts = _stem_and_stages(model.features)
    parts[-1][1].append(model.norm)
    stages = [("stem", ImageStage(*parts[0][1], outwards))]
    stages += [(name, ImageStage(inwards, *modules, outwards)) for name, modules in parts[1:]]
    return Cut(model, stages, PooledHead(model.head, "average"), "head.")


def _stem_and_stages(features: Iterable[nn.Module]) -> list[tuple[str, list[nn.Module]]]:
    """Return the stages of a network of stem, blocks, downsampling, blocks, downsampling, blocks, ..."""
    stem, first, *others = features
    stages = [
        [first],
        *([shrink, blocks] for shrink, blocks in zip(others[::2], others[1::2], strict=True)),
    ]
    return [("stem", [stem]), *((f"stage{i}", stage) for i, stage in enumerate(stages, start=1))]


def _vision_transformer(model: Any) -> Cut:
    names = {name: f"layers.{name}" for name, _ in model.encoder.layers.named_children()}
    names[list(names)[-1]] += " ln"
    stages = [("embeddings", TokensOfImage(model)), *_join(model.encoder, names)]
    head = PooledHead(model.heads, "class_token", prefix_tokens=1)
    return Cut(model, stages, head, "heads.", pooling="class_token", prefix_tokens=1)


def _maxvit(model: Any) -> Cut:
    side = 4 * model.blocks[0].grid_size[0]  # the stem and the first block each halve the size
    stages = [("stem", ImageStage(FixedSize(side), model.stem))]
    stages += [(f"block{i}", ImageStage(block)) for i, block in enumerate(model.blocks, start=1)]
    return Cut(model, stages, ImageStage(model.classifier), "classifier.")


_FAMILIES: dict[type[nn.Module], Callable[[Any], Cut]] = {
    models.AlexNet: _alexnet_or_vgg,
    models.ConvNeXt: _convnext,
    models.DenseNet: _densenet,
    models.EfficientNet: _efficientnet,
    models.GoogLeNet: _googlenet,
    models.Inception3: _inception_v3,
    models.MaxVit: _maxvit,
    models.MNASNet: _mnasnet,
    models.MobileNetV2: _mobilenet,
    models.MobileNetV3: _mobilenet,
    models.RegNet: _regnet,
    models.ResNet: _resnet,
    models.ShuffleNetV2: _shufflenet,
    models.SqueezeNet: _squeezenet,
    SwinTransformer: _swin,
    models.VGG: _alexnet_or_vgg,
    models.VisionTransformer: _vision_transformer,
}


class FixedSize(nn.Module):
    """Pass images of one size on, because later modules have tables for that size.

    Parameters
    ----------
    side : int
        Height and width, in pixels.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, images: Tensor) -> Tensor:
        """Return the images unchanged.

        Raises
        ------
        InvalidParameterError
            If they have another size.
        """
        if images.shape[2:] != (self.side, self.side):
            height, width = images.shape[2:]
            raise InvalidParameterError(
                f"this network takes images of {self.side}x{self.side} pixels, not {height}x{width}: leave "
                f"preprocess='auto', or set preprocess={{'crop': ({self.side}, {self.side})}}"
            )
        return images


class TransformInput(nn.Module):
    """Convert the usual normalisation to that of GoogLeNet and Inception v3, which is (pixel - 0.5) / 0.5."""

    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Divided in float64, as in torchvision, because deep networks amplify rounding errors.
        scale = [std / 0.5 for std in (0.229, 0.224, 0.225)]
        shift = [(mean - 0.5) / 0.5 for mean in (0.485, 0.456, 0.406)]
        self.register_buffer("scale", torch.tensor(scale).view(3, 1, 1), persistent=False)
        self.register_buffer("shift", torch.tensor(shift).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return images (n, 3, height, width)."""
        return images * self.scale + self.shift


class TokensOfImage(nn.Module):
    """First stage of a VisionTransformer: class token and patch tokens, with positions added.

    Parameters
    ----------
    model : torchvision.models.VisionTransformer
        Network that provides the tensors.
    """

    def __init__(self, model: models.VisionTransformer) -> None:
        super().__init__()
        self.size = FixedSize(model.image_size)
        self.conv_proj = model.conv_proj
        self.class_token = model.class_token
        self.pos_embedding = model.encoder.pos_embedding
        self.dropout = model.encoder.dropout

    def forward(self, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return tokens (n, 1 + patches, channels)."""
        patches = self.conv_proj(self.size(values)).flatten(2).transpose(1, 2)  # (n, patches, channels)
        tokens = torch.cat([self.class_token.expand(len(patches), -1, -1), patches], 1)  # (n, 1 + patches, channels)
        out: Tensor = self.dropout(tokens + self.pos_embedding)
        return out
