"""Parameters that estimators with a backbone share."""

from __future__ import annotations

from sktransfer._parameters import Parameter

__all__ = ["BACKBONE", "COMPUTE", "LAYER", "VERBOSE"]

BACKBONE = [
    Parameter(
        "backbone",
        "tiny/cnn",
        "str or Backbone",
        """Name of a backbone (`list_backbones()` shows them; `"hf/<hub id or local folder>"` takes models of
        transformers), or a loaded backbone. Its modality decides whether X holds images or texts.""",
    ),
    Parameter(
        "weights",
        "pretrained",
        '{"pretrained", "random"} or path',
        """"random" draws the weights by `random_state`, as a control. A path is a local safetensors file, or a state
        dict that `torch.load(weights_only=True)` reads.""",
    ),
    Parameter("preprocess", "auto", '"auto", ImageTransform or dict', "As in `ImageFeaturizer`."),
    Parameter("image_shape", None, "tuple of int", "As in `ImageFeaturizer`."),
    Parameter("max_length", None, "int", "As in `TextFeaturizer`."),
]
LAYER = [
    Parameter(
        "layer",
        -1,
        "int, str or list of these",
        """Stage whose output the head reads: an index, a name, a list (concatenated) or "all". Stages above the highest
        of them are dropped. "mix" adds all stages up by learned weights (`layer_weights_`) [2]_, if their features are
        of equal width.""",
    ),
    Parameter("pooling", "auto", "str", "As in `ImageFeaturizer` and `TextFeaturizer`."),
]
COMPUTE = [
    Parameter("device", "auto", "str or torch.device", '"auto" is a GPU if there is one, else the CPU.'),
    Parameter("precision", "float32", '{"float32", "bfloat16", "float16", "auto"}', "Precision of the stages."),
    Parameter("cache", "memory", '"memory", path or None', "Cache of layer outputs."),
]
VERBOSE = Parameter("verbose", 0, "int", "1 shows a progress bar.")
