"""Small backbones with random weights, and samples for them."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.stages import ImageStage, PooledHead
from sktransfer.weights.reading import fill

STAGES = {"stem": 4, "middle": 6, "top": 5}


class Listed:
    """Samples in a list that records every loaded row."""

    def __init__(self, values):
        self.values = list(values)
        self.loaded = []

    def __len__(self):
        return len(self.values)

    def load(self, row):
        self.loaded.append(row)
        return self.values[row]

    def label(self, row):
        return None

    def key(self, row):
        value = self.values[row]
        content = value.encode() if isinstance(value, str) else np.ascontiguousarray(value).tobytes()
        return hashlib.sha256(content).digest()[:20]

    def keys(self, rows):
        return [self.key(row) for row in rows]


class Words:
    """Tokenizer that splits at blanks. The id of a word is its number of letters."""

    pad_value = 0

    def __init__(self, limit=None):
        self.limit = 8 if limit is None else limit

    @property
    def key(self):
        return f"words {self.limit}"

    def with_max_length(self, max_length):
        return Words(max_length)

    def tokenize(self, samples):
        ids = [[min(len(word), 9) for word in text.split()] for text in samples]
        return [torch.tensor(one[: self.limit]) for one in ids], [len(one) > self.limit for one in ids]

    def __call__(self, samples):
        return self.tokenize(samples)[0]


class Embed(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.table = nn.Embedding(10, width)
        self.places = nn.Embedding(64, width)

    def forward(self, values, mask=None):
        places = torch.arange(values.shape[1], device=values.device)
        return self.table(values) + self.places(places)  # (n, tokens, width)


class Attend(nn.Module):
    """Attention over all unmasked tokens. Its output changes if padding is not masked."""

    def __init__(self, width=4):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, values, mask):
        scores = self.query(values) @ self.key(values).transpose(1, 2)  # (n, tokens, tokens)
        scores = scores.masked_fill(~mask[:, None, :], -1e9)
        return values + scores.softmax(2) @ self.value(values)  # (n, tokens, width)


class Patches(nn.Module):
    """Feature maps as a sequence of patches after two extra tokens."""

    def __init__(self, width):
        super().__init__()
        self.first = nn.Parameter(torch.randn(2, width))

    def forward(self, values, mask=None):
        patches = values.flatten(2).transpose(1, 2)  # (n, height * width, channels)
        first = self.first * patches.sum(1, keepdim=True)  # (n, 2, channels)
        return torch.cat([first, patches], 1)  # (n, 2 + height * width, channels)


def image_network(seed=0):
    generator = torch.random.get_rng_state()
    torch.default_generator.manual_seed(seed)
    stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
    middle = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3, 2, 1))  # modifies the output of the stem in place
    top = nn.Sequential(nn.ReLU(), nn.Conv2d(6, 5, 3, 2, 1))
    network = nn.ModuleDict({"stages": nn.ModuleDict({"stem": stem, "middle": middle, "top": top})})
    network["head"] = nn.Linear(5, 3)
    torch.random.set_rng_state(generator)
    return network


def image_backbone(seed=0, *, network=None, **changes):
    network = image_network(seed) if network is None else network
    options = {
        "name": "toy/maps",
        "modality": "image",
        "stages": [(name, ImageStage(stage)) for name, stage in network["stages"].items()],
        "preprocess": ImageTransform(resize=(8, 8)),
        "pooling": "average",
        "head": PooledHead(network["head"], "average"),
        "categories": ("a", "b", "c"),
        "definition": "toy",
    }
    return Backbone(**(options | changes))


def token_backbone(seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = [("stem", ImageStage(nn.Conv2d(3, 4, 2, 2))), ("patches", ImageStage(Patches(4)))]
    transform = ImageTransform(resize=(4, 4))
    return Backbone(
        name="toy/tokens", modality="image", stages=stages, preprocess=transform, pooling="average", prefix_tokens=2
    )


def text_backbone(seed=0, limit=8):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stages = [("embed", Embed()), ("attend1", Attend()), ("attend2", Attend())]
    return Backbone(name="toy/words", modality="text", stages=stages, preprocess=Words(limit), pooling="mean")


def load_image(spec, path):
    """Load a backbone as a plugin does: random weights from torch's global generator, or weights of a file."""
    seed = int(torch.randint(2**31, (1,)))
    network = image_network(seed)
    whole = fill(network, path, head="head.")
    head = PooledHead(network["head"], "average") if whole else None
    return image_backbone(network=network, name=spec.name, head=head, categories=())


def images(n, side=8, seed=0):
    return Listed(np.random.default_rng(seed).random((n, side, side, 3), dtype=np.float32))


TEXTS = ["a", "bb ccc", "dddd e ff ggg", "hhhhh", "i jj kkk llll mmmmm nn", "o pp", "a", "qqq rr s tttt uu v"]
