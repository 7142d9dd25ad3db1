"""Training texts of `tiny/bert`: film reviews (IMDB) in segments of all lengths, and the glosses of WordNet.

The data sets of the benchmarks (MR, Amazon MDSD, MPQA, SST) are not used.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np

VOCABULARY = 10_000
MAX_WORDS = 180  # per segment, about 230 word pieces
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+")


def segments(data: Path, wordnet: Path, seed: int = 0) -> list[str]:
    """Return all texts, shuffled.

    Parameters
    ----------
    data : Path
        The folder that holds `text/imdb_train.csv.gz`.
    wordnet : Path
        The folder of WordNet 3.1 with `data.noun`, `data.verb`, `data.adj` and `data.adv`.
    seed : int, default=0
        Seed of the segmentation and the order.
    """
    generator = np.random.default_rng(seed)
    texts = film_segments(data, generator) + glosses(wordnet)
    return [texts[i] for i in generator.permutation(len(texts))]


def film_segments(data: Path, generator: np.random.Generator) -> list[str]:
    """Return the film reviews in segments, in the order of the file."""
    return [piece for review in _reviews(data) for piece in _cut(review, generator)]


def mixed(texts: list[str], others: list[str], share: float, generator: np.random.Generator) -> list[str]:
    """Return texts of two lists in a random order that keeps the order of each, until one of them ends.

    Parameters
    ----------
    texts, others : list of str
        The two lists.
    share : float
        Share of `others` in the result.
    generator : numpy.random.Generator
        Source of the order.
    """
    left, result = [iter(texts), iter(others)], []
    for is_other in generator.random(len(texts) + len(others)) < share:
        text = next(left[int(is_other)], None)
        if text is None:
            break
        result.append(text)
    return result


def train_tokenizer(texts: list[str], path: Path) -> None:
    """Train lower-case word pieces on the texts and write them as one `tokenizer.json`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    settings = {"vocab_size": VOCABULARY, "min_frequency": 3, "limit_alphabet": 200, "show_progress": False}
    tokenizer.train_from_iterator(texts, trainers.WordPieceTrainer(special_tokens=special, **settings))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[SEP]", "[CLS]")]
    tokenizer.post_processor = processors.BertProcessing(*ends)
    tokenizer.save(str(path), pretty=False)


def widen_tokenizer(first: Path, texts: list[str], path: Path, replaced: int) -> None:
    """Replace the least used word pieces of a tokenizer by the most used new ones, and write it.

    The other word pieces keep their numbers.

    Parameters
    ----------
    first : Path
        The `tokenizer.json` to change.
    texts : list of str
        Texts to count and to find word pieces in.
    path : Path
        The file to write.
    replaced : int
        Number of word pieces to replace. Special tokens and single characters stay.
    """
    from tokenizers import Tokenizer

    content = json.loads(first.read_text(encoding="utf-8"))
    vocabulary: dict[str, int] = content["model"]["vocab"]
    train_tokenizer(texts, path)
    new = [piece for piece in Tokenizer.from_file(str(path)).get_vocab() if piece not in vocabulary]
    content["model"]["vocab"] = vocabulary | {piece: len(vocabulary) + i for i, piece in enumerate(sorted(new))}
    counting = Tokenizer.from_str(json.dumps(content))
    counts = Counter(piece for encoding in counting.encode_batch(texts) for piece in encoding.tokens)
    special = {token["content"] for token in content["added_tokens"]}
    old = [piece for piece in vocabulary if piece not in special and len(piece.removeprefix("##")) > 1]
    least = sorted(old, key=lambda piece: (counts[piece], piece))[:replaced]
    most = sorted(new, key=lambda piece: (-counts[piece], piece))[:replaced]
    numbers = vocabulary | {b: vocabulary[a] for a, b in zip(least, most)}
    for piece in least[: len(most)]:
        del numbers[piece]
    content["model"]["vocab"] = dict(sorted(numbers.items(), key=lambda item: item[1]))
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _reviews(data: Path) -> list[str]:
    with gzip.open(data / "text" / "imdb_train.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return [re.sub(r"(<br\s*/?>\s*)+", " ", row["text"]) for row in csv.DictReader(file)]


def _cut(review: str, generator: np.random.Generator) -> list[str]:
    """Split a review into phrases, sentences and paragraphs."""
    pieces: list[str] = []
    words: list[str] = []
    wanted = _wanted(generator)
    for sentence in _SENTENCE_END.split(review):
        words += sentence.split()
        while len(words) >= wanted:
            # A phrase is part of a sentence. Longer segments end at the end of a sentence, up to MAX_WORDS.
            take = wanted if wanted < 8 else min(len(words), MAX_WORDS)
            pieces.append(" ".join(words[:take]))
            words, wanted = words[take:], _wanted(generator)
    return [*pieces, " ".join(words)] if words else pieces


def _wanted(generator: np.random.Generator) -> int:
    """Return the minimal number of words of the next segment."""
    low, high = ((2, 8), (8, 20), (20, 60), (60, 150))[generator.choice(4, p=[0.15, 0.55, 0.2, 0.1])]
    return int(generator.integers(low, high))


def glosses(wordnet: Path) -> list[str]:
    """Return each gloss of WordNet after its words."""
    texts = []
    for part in ("noun", "verb", "adj", "adv"):
        for line in (wordnet / f"data.{part}").read_text(encoding="utf-8").splitlines():
            if line.startswith(" ") or " | " not in line:  # the first lines contain the licence
                continue
            fields, gloss = line.split(" | ", 1)
            words = fields.split()
            # Offset, file, type, count (hexadecimal), then pairs of a word and a number; adjectives may carry a "(p)".
            names = words[4 : 4 + 2 * min(3, int(words[3], 16)) : 2]
            plain = [re.sub(r"\(\w+\)$", "", name).replace("_", " ") for name in names]
            texts.append(f"{', '.join(plain)}: {gloss.strip()}")
    return texts
