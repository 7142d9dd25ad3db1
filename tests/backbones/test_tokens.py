"""Token ids against transformers' own tokenizers, and what their callers rely on."""

from __future__ import annotations

import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from sktransfer import load_backbone
from sktransfer.backbones.tokens import Tokens, load_tokens
from sktransfer.exceptions import InvalidParameterError, LoadError, SaveError, WeightsError
from sktransfer.weights.hub import has_tokenizer
from tests.helpers.huggingface_folders import TEXTS, make_tokenizer, minilm_folder, save_tokenizer

MINILM = minilm_folder()
STRANGE = ["", " ", "\n\t", "naïve café", "漢字", "🦊", "a</s>b", "the " * 300]


@pytest.fixture(scope="module", params=["byte-level BPE", "WordPiece"])
def folder(request, tmp_path_factory) -> Path:
    if request.param == "WordPiece":  # the folder says that texts are cut at 128 and padded to 128 tokens
        return MINILM
    path = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(path)
    (path / "config.json").write_text('{"model_type": "roberta"}')
    return path


@pytest.mark.parametrize("max_length", [None, 3, 8, 20])
def test_tokenize_gives_the_ids_of_transformers(folder, max_length):
    own = transformers.AutoTokenizer.from_pretrained(folder)
    tokens = load_tokens(folder, 48).with_max_length(max_length)
    ids, truncated = tokens.tokenize(TEXTS + STRANGE)
    limit = 48 if max_length is None else max_length
    expected = [own(text, truncation=True, max_length=limit)["input_ids"] for text in TEXTS + STRANGE]
    assert [one.tolist() for one in ids] == expected
    assert all(one.dtype == torch.int64 for one in ids)
    assert truncated == [len(own(text)["input_ids"]) > limit for text in TEXTS + STRANGE]
    assert [one.tolist() for one in tokens(TEXTS + STRANGE)] == expected
    assert tokens.pad_value == own.pad_token_id


def test_side_left_keeps_the_end_of_a_text():
    tokens = Tokens(make_tokenizer(), limit=64, max_length=5, side="left")
    whole = Tokens(make_tokenizer(), limit=64)(TEXTS[:1])[0].tolist()
    assert tokens(TEXTS[:1])[0].tolist() == [0, *whole[-4:-1], 2]


def test_load_tokens_limit_is_the_smaller_of_two(tmp_path):
    save_tokenizer(tmp_path)  # says 64
    (tmp_path / "config.json").write_text('{"model_type": "roberta"}')
    assert load_tokens(tmp_path, 500).limit == 64
    assert load_tokens(tmp_path, 30).limit == 30


def test_tokenize_gives_an_empty_text_one_token_without_special_ones():
    plain = Tokens(make_tokenizer(special=False), limit=8, empty_value=2)
    assert plain([""])[0].tolist() == [2]
    framed = Tokens(make_tokenizer(), limit=8)
    assert framed([""])[0].tolist() == [0, 2]
    assert plain.tokenize([]) == ([], [])


def test_load_tokens_knows_the_token_of_an_empty_text_of_gpt2(tmp_path):
    save_tokenizer(tmp_path, special=False, pad=False)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    tokens = load_tokens(tmp_path, 32)
    assert tokens([""])[0].tolist() == [2]  # </s>
    assert tokens.pad_value == 0


def test_tokens_replace_lone_surrogates():
    tokens = Tokens(make_tokenizer(), limit=64)
    assert tokens(["a \ud83d b"])[0].tolist() == tokens(["a \ufffd b"])[0].tolist()
    assert tokens(["\ud83e\udd8a"])[0].tolist() == tokens(["🦊"])[0].tolist()  # two halves that belong together


@pytest.mark.parametrize("given", [0, -1, 2, 65, True, 3.0, "8"])
def test_with_max_length_names_the_allowed_range(given):
    tokens = Tokens(make_tokenizer(), limit=64)
    with pytest.raises(InvalidParameterError, match=r"from 3 tokens \(2 of them special\) to 64"):
        tokens.with_max_length(given)


def test_with_max_length_returns_a_new_object():
    tokens = Tokens(make_tokenizer(), limit=64)
    short = tokens.with_max_length(np.int64(4))
    assert (tokens.limit, short.limit) == (64, 4)
    assert len(tokens(TEXTS[:1])[0]) > 4 == len(short(TEXTS[:1])[0])
    assert short.with_max_length(None).key == tokens.key


def test_key_differs_with_the_tokenisation():
    tokens = Tokens(make_tokenizer(), limit=64)
    others = [
        tokens.with_max_length(9),
        Tokens(make_tokenizer(special=False), limit=64),
        Tokens(make_tokenizer(), limit=32),
        Tokens(make_tokenizer(), limit=64, side="left"),
    ]
    assert len({tokens.key, *(other.key for other in others)}) == 5
    assert Tokens(make_tokenizer(), limit=64).key == tokens.key
    truncating = make_tokenizer()
    truncating.enable_truncation(5)  # as a tokenizer.json may say: switched off, so no difference
    truncating.enable_padding(length=9)
    assert Tokens(truncating, limit=64).key == tokens.key


class Doubled:
    """Rules that write each word twice, the second time in capitals."""

    key = "doubled"

    def __call__(self, text):
        return " ".join(f"{word} {word.upper()}" for word in text.split())


def word_tokens(rules=None, **settings):
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "a": 1, "A": 2, "b": 3, "B": 4}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return Tokens(tokenizer, limit=64, rules=rules, **settings)


def test_rules_rewrite_texts_before_the_tokenizer():
    tokens = word_tokens(Doubled())
    assert tokens(["a b", ""])[0].tolist() == [1, 2, 3, 4]
    assert tokens.words("a b") == ("a A b B", [(0, 0, 1), (1, 2, 3), (2, 4, 5), (3, 6, 7)])
    pieces = tokens.word_pieces(["b", "", "a"])
    assert pieces.ids.tolist() == [3, 4, 0, 1, 2]
    assert (pieces.first.tolist(), pieces.last.tolist()) == ([0, 2, 3], [1, 2, 4])
    assert tokens.key == f"{word_tokens().key} doubled"
    assert pickle.loads(pickle.dumps(tokens)).key == tokens.key


def test_rules_rewrite_the_part_of_a_long_text_that_is_kept():
    tokens = word_tokens(Doubled(), side="left", max_length=3)
    (ids,), truncated = tokens.tokenize(["a " * 50_000 + "b"])
    assert (ids.tolist(), truncated) == ([2, 3, 4], [True])
    text, words = tokens.words("a " * 50_000 + "b")
    assert [text[start:stop] for _, start, stop in words] == ["A", "b", "B"]


def test_to_state_refuses_rules():
    with pytest.raises(SaveError, match=r"rules .doubled. is code"):
        word_tokens(Doubled()).to_state()


def test_pickle_keeps_key_and_ids_of_tokens():
    tokens = Tokens(make_tokenizer(), limit=64, max_length=7)
    again = pickle.loads(pickle.dumps(tokens))
    assert again.key == tokens.key
    assert [one.tolist() for one in again(TEXTS)] == [one.tolist() for one in tokens(TEXTS)]


def test_with_max_length_versions_work_in_several_threads():
    tokens = Tokens(make_tokenizer(), limit=64)
    versions = [tokens.with_max_length(n) for n in range(3, 19)] * 4
    expected = [[one.tolist() for one in version(TEXTS * 5)] for version in versions]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda version: [one.tolist() for one in version(TEXTS * 5)], versions))
    assert found == expected


def test_tokens_leave_the_environment_unchanged():
    before = dict(os.environ)
    Tokens(make_tokenizer(), limit=64)(TEXTS)
    assert dict(os.environ) == before


def test_load_tokens_lists_the_files_looked_for_without_a_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert not has_tokenizer(tmp_path)
    with pytest.raises(WeightsError, match=r"has no tokenizer; looked for tokenizer\.json, vocab\.txt"):
        load_tokens(tmp_path, 64)


def test_load_tokens_names_the_folder_of_a_damaged_tokenizer(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(WeightsError, match=f"{tmp_path}: its tokenizer cannot be read"):
        load_tokens(tmp_path, 64)


def unigram():
    trainer = trainers.UnigramTrainer(vocab_size=60, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(["a good film", "nothing to love here", "the best of all films"] * 9, trainer)
    return tokenizer


def byte_pairs():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(["a good film", "nothing to love here", "the best of all films"] * 9, trainer)
    return tokenizer


class Counting:
    """A tokenizer that writes down how much text it is given."""

    def __init__(self, tokenizer, read):
        self.tokenizer, self.read = tokenizer, read

    def __getattr__(self, name):
        return getattr(self.tokenizer, name)

    def encode(self, text, **options):
        self.read.append(len(text))
        return self.tokenizer.encode(text, **options)


@pytest.mark.parametrize("make", [unigram, byte_pairs, make_tokenizer])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("limit", [3, 40])
def test_tokenize_reads_no_more_of_a_long_text_than_needed(make, side, limit):
    tokenizer, rng = make(), random.Random(0)
    tokens = Tokens(tokenizer, limit=limit, side=side)
    n_special = tokenizer.num_special_tokens_to_add(False)
    read = []
    counted = Tokens(Counting(tokenizer, read), limit=limit, side=side)
    pieces = ["a good film ", "thebestofall", "nothing   ", "\u00e9\u6f22", "\n", ".", " love", "x" * 50, " " * 90]
    for _ in range(4):
        text = "".join(rng.choices(pieces, k=1500))
        whole = tokenizer.encode(text, add_special_tokens=False)
        whole.truncate(limit - n_special, direction=side)
        expected = tokenizer.post_process(whole).ids
        (ids,), truncated = tokens.tokenize([text])
        assert ids.tolist() == expected
        assert truncated == [True]
        counted.tokenize([text])
        assert max(read) < len(text) / 2


@pytest.mark.parametrize(
    ("model", "text", "share"),
    [
        (models.WordLevel({"[UNK]": 0, "a": 1}, "[UNK]"), "a \u0e20\u0e32\u0e1e \u0e20\u0e32 a", 0.5),
        (models.WordLevel({"[UNK]": 0, "a": 1}, "[UNK]"), "a a", 0.0),
        (models.WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"), "\U0001f642", 1.0),
        (models.BPE({"<unk>": 0, "a": 1}, [], unk_token="<unk>"), "a b", 0.5),
        (models.BPE({"a": 0}, []), "a", 0.0),
        (models.Unigram([("<unk>", 0.0), ("\u2581", -3.0), ("a", -2.0)], 0), "\u0e20\u0e32\u0e1e a", 0.5),
    ],
)
def test_unknown_share_counts_the_unknown_token_of_each_kind_of_model(model, text, share):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = (
        pre_tokenizers.Metaspace() if isinstance(model, models.Unigram) else pre_tokenizers.Whitespace()
    )
    tokens = Tokens(tokenizer, limit=16)
    assert tokens.unknown_share(tokens([text])[0]) == share


def test_unknown_share_leaves_out_special_tokens_even_if_one_of_them_is_the_unknown_token():
    tokenizer = Tokenizer(models.BPE({"<start>": 0, "<end>": 1, "a": 2}, [], unk_token="<end>"))  # as in CLIP
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 0), ("<end>", 1)]
    )
    tokens = Tokens(tokenizer, limit=16)
    assert tokens.unknown_share(tokens(["a"])[0]) == 0
    own = load_tokens(MINILM, 48)
    assert [own.unknown_share(ids) for ids in own(["\u0e20\u0e32\u0e1e", "good \u0e20\u0e32\u0e1e", "", "good"])] == [
        1.0,
        0.5,
        0.0,
        0.0,
    ]


def roberta():
    """Return a tokenizer of bytes with the special tokens of RoBERTa, whose offsets leave out blanks."""
    tokenizer = byte_pairs()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    ends = [(token, tokenizer.token_to_id(token)) for token in ("</s>", "<s>")]
    tokenizer.post_processor = processors.RobertaProcessing(*ends)
    return Tokens(tokenizer, limit=40, empty_value=ends[0][1])


def sentencepiece():
    """Return a tokenizer as that of XLM-RoBERTa, which splits at blanks first."""
    tokenizer = unigram()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    return Tokens(tokenizer, limit=40)


FAMILIES = {
    "word pieces": lambda: load_backbone("tiny/bert").preprocess,
    "bytes": lambda: Tokens(byte_pairs(), limit=40, empty_value=0),
    "roberta": roberta,
    "unigram": lambda: Tokens(unigram(), limit=40),
    "sentencepiece": sentencepiece,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_word_pieces_of_each_family(family):
    tokens = FAMILIES[family]()
    words = ["nothing", "", "a good", "love", " ", "\u00e9\u6f22", "best"]
    pieces = tokens.word_pieces(words)
    assert pieces.is_filled.tolist() == [False, True, False, False, True, False, False]
    for word, first, last in zip(words, pieces.first, pieces.last):
        found = "".join(tokens._tokenizer.id_to_token(i) for i in pieces.ids[first : last + 1])
        if word.strip() and word.isascii():
            assert found.replace("##", "").replace("\u2581", "").replace("\u0120", "") == word.replace(" ", "")
    assert (pieces.starts[:-1] <= pieces.first).all()
    assert (pieces.last < pieces.starts[1:]).all()
    assert pieces.starts[-1] == len(pieces.ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_word_pieces_are_those_of_the_text(family):
    tokens = FAMILIES[family]()
    before, after = tokens.special_ids
    ids = tokens.word_pieces(["nothing", "to", "love", "here"]).ids.tolist()
    assert [*before, *ids, *after] == tokens(["nothing to love here"])[0].tolist()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(5))
def test_word_pieces_gives_each_word_a_piece(family, seed):
    tokens, rng = FAMILIES[family](), random.Random(seed)
    for _ in range(20):
        ranges = [(32, 127), (0x300, 0x370), (0x600, 0x700), (0x2000, 0x2070), (0xD800, 0xE000), (0x1F600, 0x1F650)]
        words = ["".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(4))) for _ in range(9)]
        pieces = tokens.word_pieces(words)
        assert len(pieces.first) == len(pieces.last) == len(words)
        assert (pieces.starts[:-1] <= pieces.first).all()
        assert (pieces.first <= pieces.last).all()
        assert (pieces.last < pieces.starts[1:]).all()


def test_word_pieces_of_a_decoder_end_with_the_word():
    pieces = Tokens(byte_pairs(), limit=40, empty_value=0).word_pieces(["nothing", "unloved"])
    assert pieces.last[-1] == len(pieces.ids) - 1
    assert pieces.first[1] > pieces.last[0]


def test_word_pieces_reads_no_more_of_a_long_word_than_needed():
    read = []
    tokens = Tokens(Counting(byte_pairs(), read), limit=40, empty_value=0)
    pieces = tokens.word_pieces(["a" * 10**6, "film"])
    assert max(read) < 10**4
    assert pieces.last[0] < pieces.first[1]


def test_word_pieces_names_a_token_without_embedding():
    with pytest.raises(WeightsError, match="embeddings of 3 tokens"):
        load_backbone("tiny/bert").preprocess.with_embedding(3).word_pieces(["film"])


def test_mask_value_names_the_mask_token_and_survives_saving():
    tokens = load_tokens(MINILM, 48)
    assert tokens.mask_token == "[MASK]"
    assert tokens(["a [MASK] film"])[0].tolist().count(tokens.mask_value) == 1
    state = tokens.to_state()
    assert Tokens.from_state(state).mask_value == tokens.mask_value
    assert Tokens.from_state({name: one for name, one in state.items() if name != "mask_value"}).mask_token is None
    with pytest.raises(LoadError, match="mask_value"):
        Tokens.from_state({**state, "mask_value": "[MASK]"})
    assert Tokens.from_state({**state, "mask_value": None}).key == tokens.key  # it changes no token


def test_decode_returns_a_token_without_the_blank_before_it():
    tokens = load_tokens(MINILM, 48)
    assert [tokens.decode(int(token)) for token in tokens(["film unfilmed"])[0]][1] == "film"
    bpe = Tokenizer(models.BPE({"\u0120a": 0}, []))
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(), decoders.ByteLevel()
    assert Tokens(bpe, limit=4).decode(0) == "a"
