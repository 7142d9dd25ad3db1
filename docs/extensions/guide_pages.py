"""Which pages of the guide explain a name or a parameter."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

DOCS = Path(__file__).parents[1]
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
WORD = re.compile(r"[A-Za-z_]\w*")
# Parameters by the page that explains them. A test requires that the code of the page mentions them.
EXPLAINED = {
    "another_domain": "alignment alignment_weight means hidden n_kernels",
    "bigger_than_memory": "chunks chunk_size resume",
    "callbacks": "callbacks optimizer",
    "explain_and_export": "description is_exact output",
    "freezing": "freeze_depth layer",
    "gpu": "device precision",
    "inputs": "image_shape on_error preprocess",
    "long_texts": "max_length groups",
    "recipes": "adapter augment class_weight criterion early_stopping head head_init head_lr l2_sp label_smoothing "
    "layer_lr_decay lr lr_schedule max_epochs patience probe sample_weight unfreezing validation_fraction warm_start "
    "weight_decay",
    "saving": "folder weights_path",
    "several_tasks": "aggregator task_sampling task_weights tasks",
    "shared_cache": "cache",
    "speed": "batch_size cache_disk cache_dtype cache_memory compile n_jobs",
    "tables": "image_backbone kinds missing text_backbone towers",
    "tags_and_masks": "average decode masks max_pixels metrics scheme subword zero_division",
    "unlabelled": "lm_head objective",
    "which_network": "backbone budget candidates metric pooling weights",
    "words": "continue_from min_count oov vector_size",
}
PAGE_OF = {parameter: f"guide/{page}" for page, parameters in EXPLAINED.items() for parameter in parameters.split()}


class Guide:
    """The pages of the user guide, with the words of their code."""

    def __init__(self, docs: Path = DOCS) -> None:
        """Read the pages of a folder."""
        self.words: dict[str, Counter[str]] = {}
        for pattern in ("start.md", "paths.md", "guide/*.md"):
            for path in sorted(docs.glob(pattern)):
                text = path.read_text("utf-8")
                codes = [*FENCE.findall(text), *CODE.findall(FENCE.sub("", text))]
                page = path.relative_to(docs).with_suffix("").as_posix()
                self.words[page] = Counter(word for code in codes for word in WORD.findall(code))

    def pages_on(self, name: str, n: int = 4) -> list[str]:
        """Return up to `n` pages whose code mentions `name`, first those that mention it often for their length."""
        ranks = {page: words[name] / words.total() ** 0.5 for page, words in self.words.items() if name in words}
        return sorted(ranks, key=lambda page: -ranks[page])[:n]
