"""Parameters of every estimator that runs a backbone over samples.

An estimator passes the records that it has to `with_parameters`, in the order of its signature. `Parameter.replace`
changes a default or a description for one estimator.
"""

from __future__ import annotations

from sktransfer._parameters import Parameter
from sktransfer.backbones.pooling import pooling_options

__all__ = [
    "BACKBONE",
    "BATCH_SIZE",
    "CACHE",
    "COMPUTE",
    "DEVICE",
    "IMAGE_SHAPE",
    "LAYER",
    "MAX_LENGTH",
    "POOLING",
    "PRECISION",
    "PREPROCESS",
    "SUBWORD",
    "TARGET",
    "VERBOSE",
    "WEIGHTS",
]

BACKBONE = Parameter(
    "backbone",
    "tiny/cnn",
    "str or Backbone",
    """A name or a loaded backbone, such as `clf.backbone_` of a fitted `FineTuneClassifier`. `list_backbones()` lists
    the names, and `"hf/<hub id or local folder>"` loads models of transformers. The modality of the backbone decides
    whether X holds images or texts.""",
)

WEIGHTS = Parameter(
    "weights",
    "pretrained",
    '{"pretrained", "random"} or path',
    """Weights of the backbone. "random" is the same network untrained, as a control. A path is a local safetensors
    file, or a state dict that `torch.load(weights_only=True)` accepts.""",
)

PREPROCESS = Parameter(
    "preprocess",
    "auto",
    '"auto", ImageTransform or dict',
    """Preprocessing of images. "auto" takes the settings stored in the weights file, else those of the backbone. A dict
    changes single settings, for example `{"resize": 256, "crop": (224, 224)}`. Transparent pixels are shown on white;
    `{"background": (0, 0, 0)}` shows them on black, and `{"background": None}` the colours that they hide.""",
)

IMAGE_SHAPE = Parameter(
    "image_shape",
    None,
    "tuple of int",
    """(height, width) or (height, width, channels) of images that are passed as flat rows. None reads a row of n * n
    values as a grey square and a row of 3 * n * n values as a colour square (rows, columns, channels). A row of any
    other width becomes a strip one pixel high, with a warning.""",
)

MAX_LENGTH = Parameter(
    "max_length",
    None,
    "int",
    """Number of tokens read per text. None reads as many as the model accepts. Longer texts are truncated, with a
    warning that counts the rows of X with such texts. Texts whose outputs are cached are not reported again.""",
)

LAYER = Parameter(
    "layer",
    "auto",
    "int, str or list of these",
    """Stage whose output gives the features. "auto" weighs all stages by how well they predict y, and scales the
    features for a linear model. Otherwise an index (-1 is the last stage), a name, a list (concatenated, with
    a stage that is named twice repeated), or "all".""",
)

TARGET = Parameter(
    "target",
    "auto",
    '{"auto", "classes", "numbers"}',
    """What y holds for `layer="auto"`. "auto" takes whole numbers as labels, unless they have more than 20 values with
    fewer than 5 samples each. If a regressor follows, "numbers" gives whole numbers such as stars or counts the scale
    that it needs.""",
)

POOLING = Parameter(
    "pooling",
    "auto",
    "str",
    f"""Pooling of a stage's output into one vector per sample. "auto" is the pooling of the network's own head for
    images, the mean over tokens for text encoders and the last token for text decoders. Images allow
    {pooling_options("image")}, texts {pooling_options("text")}. Each of the two accepts the other's name of the mean,
    "average" or "mean", as well.""",
)

SUBWORD = Parameter(
    "subword",
    "mean",
    '{"first", "last", "mean"}',
    """Values of a word of several tokens: those of its first token, of its last, or the mean over all of them. A
    decoder has read the whole word only at the last.""",
)

BATCH_SIZE = Parameter(
    "batch_size",
    "auto",
    'int or "auto"',
    """Number of samples per forward pass. "auto" fills the caches of a core, or a GPU, counted in pixels or tokens.""",
)

DEVICE = Parameter(
    "device", "auto", "str or torch.device", """Device of the stages. "auto" is a GPU if there is one."""
)

PRECISION = Parameter(
    "precision",
    "float32",
    '{"float32", "bfloat16", "float16", "auto", "int8"}',
    """Precision of the stages. "auto" is bfloat16 if the processor or the GPU computes it natively, else float32.
    "int8" needs a runtime that computes it, as `set_config` takes one. Results are float32 in any case.""",
)

CACHE = Parameter(
    "cache",
    "memory",
    '"memory", path, URL, list or None',
    """Cache of the outputs of frozen stages, keyed by the content of each sample and reused by folds, candidates and
    clones. "memory" lasts as long as the process. A path is a folder, shared by the processes of a machine. A URL such
    as "s3://bucket/run" is shared by machines, and `["/local/folder", "s3://bucket/run"]` keeps a copy here. None
    caches nothing. `set_config` sets the size limits, and `cache_info` reports what is cached.""",
)

VERBOSE = Parameter("verbose", 0, "int", "1 shows a progress bar, or lines in logs and in worker processes.")

COMPUTE = (BATCH_SIZE, DEVICE, PRECISION, CACHE)
