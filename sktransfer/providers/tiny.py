"""Provider `tiny/*`: backbones whose weights are part of the package, for use without a network connection."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from sktransfer.backbones import BackboneSpec, WeightsSource, hookimpl

if TYPE_CHECKING:
    from sktransfer.backbones import Backbone

_CNN_STAGES = {"stem": 32, "block1": 64, "block2": 64, "block3": 128, "block4": 128, "block5": 192, "top": 512}
_CNN_WEIGHTS = WeightsSource(
    location="package:sktransfer.providers/shipped/tiny_cnn.safetensors",
    sha256="776bba2edca8c02049c155a2de3840c4be3ed47677b1194a045748b21407fc5c",
    size=2_899_432,
)

_BERT_STAGES = {"embeddings": 160, "layer1": 160, "layer2": 160, "layer3": 160, "layer4": 160}
_BERT_WEIGHTS = WeightsSource(
    location="package:sktransfer.providers/shipped/tiny_bert.safetensors",
    sha256="09188c16544f075b353fbcc888ee70cdb6ae0359274c1beeb74fc9658d8b679b",
    size=5_015_640,
)
_WORD_PIECES = "shipped/tiny_bert_tokenizer.json"


@hookimpl
def sktransfer_backbones() -> list[BackboneSpec]:
    """Return the specs of `tiny/*`."""
    return [
        BackboneSpec(
            name="tiny/cnn",
            loader="sktransfer.providers.tiny:load_cnn",
            modality="image",
            stages=_CNN_STAGES,
            input_size=(32, 32),
            weights=_CNN_WEIGHTS,
            licence="non-commercial research (trained on ImageNet images)",
            n_parameters=1_438_824,
        ),
        BackboneSpec(
            name="tiny/bert",
            loader="sktransfer.providers.tiny:load_bert",
            modality="text",
            stages=_BERT_STAGES,
            input_size=(256,),
            weights=_BERT_WEIGHTS,
            licence="Apache-2.0",
            n_parameters=2_467_680,
            language="en",
        ),
    ]


def load_cnn(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build `tiny/cnn` (see `tiny_cnn.py`, and the model card in the folder of its weights)."""
    from torch import nn

    from sktransfer.backbones import Backbone, ImageStage, ImageTransform, PooledHead, fill
    from sktransfer.providers.tiny_cnn import MEAN, STD, build_head, build_stages

    stages, head = build_stages(), build_head()
    complete = fill(nn.ModuleDict({"stages": nn.ModuleDict(dict(stages)), "head": head}), path, head="head.")
    return Backbone(
        name=spec.name,
        modality="image",
        stages=[(name, ImageStage(stage)) for name, stage in stages],
        preprocess=ImageTransform(resize=(32, 32), mean=MEAN, std=STD, interpolation="bicubic"),
        pooling="average",
        head=PooledHead(head, "average") if complete else None,
        definition=spec.name,
    )


def load_bert(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build `tiny/bert` (see `tiny_bert.py`, and the model card in the folder of its weights)."""
    from tokenizers import Tokenizer

    from sktransfer.backbones import Backbone, LanguageModelHead, Tokens, fill
    from sktransfer.providers.huggingface_text import TEXT_STAGES
    from sktransfer.providers.tiny_bert import CONFIG, build_lm_head, build_model, in_file

    model = build_model()
    transform, output = build_lm_head(model)
    complete = fill(in_file(model, transform, output.bias), path, head="cls.")
    tokenizer = Tokenizer.from_str(files("sktransfer.providers").joinpath(_WORD_PIECES).read_text(encoding="utf-8"))
    return Backbone(
        name=spec.name,
        modality="text",
        stages=list(zip(spec.stages, TEXT_STAGES["bert"](model), strict=True)),
        preprocess=Tokens(
            tokenizer, limit=CONFIG["max_position_embeddings"], mask_value=tokenizer.token_to_id("[MASK]")
        ),
        pooling="mean",
        definition=json.dumps(CONFIG, sort_keys=True),
        lm_head=LanguageModelHead("masked", transform, output) if complete else None,
    )
