"""Resumption of `featurize`: after an interruption or a kill, with changed input, featurizer or settings."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.preprocessing import FunctionTransformer

from sktransfer import ImageFeaturizer, TextFeaturizer, WordEmbedder, featurize, load_features
from sktransfer.exceptions import InvalidParameterError, LoadError, ResumeError
from sktransfer.streaming.digests import versions
from sktransfer.streaming.log import FORMAT
from sktransfer.streaming.sinks import LOG
from sktransfer.words.vectors import WordVectors

OUTPUTS = ["folder", "file.parquet", "array.npy"]


class Counter(TransformerMixin, BaseEstimator):
    """Transformer that counts the rows that it transforms."""

    n_transformed = 0

    def fit(self, X, y=None):
        self.n_fitted_ = len(X)
        return self

    def transform(self, X):
        Counter.n_transformed += len(X)
        return np.asarray([[len(text), text.count("o")] for text in X], np.float32)


@pytest.fixture
def counter(texts):
    Counter.n_transformed = 0
    return Counter().fit(texts)


def interrupted(texts, n):
    """Yield chunks of three texts, and fail after n."""
    for start in range(0, n, 3):
        yield texts[start : min(n, start + 3)]
    raise KeyboardInterrupt


def stop_after(texts, n, featurizer, out, **options):
    with pytest.raises(KeyboardInterrupt):
        featurize(interrupted(texts, n), featurizer, out, **options)


def content(path):
    """Return the bytes of an output, without its log."""
    if path.is_dir():
        return {one.name: one.read_bytes() for one in path.glob("*.parquet")}
    return path.read_bytes()


@pytest.mark.parametrize("out", OUTPUTS)
def test_resume_computes_the_rest_and_gives_the_same_output(out, texts, counter, tmp_path):
    featurize(texts, counter, tmp_path / f"whole_{out}", chunk_size=5)
    assert Counter.n_transformed == 25
    path = tmp_path / out
    stop_after(texts, 13, counter, path, chunk_size=5)
    assert Counter.n_transformed == 25 + 13
    with pytest.raises(LoadError):
        load_features(path)
    stored = featurize(texts, counter, path, chunk_size=5)
    assert stored.n_computed == 15
    assert Counter.n_transformed == 25 + 13 + 15
    assert content(path) == content(tmp_path / f"whole_{out}")
    again = featurize(iter([texts]), counter, path, chunk_size=5)
    assert (again.n_computed, again.n_rows) == (0, 25)
    assert Counter.n_transformed == 25 + 13 + 15


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize("complete", [False, True], ids=["interrupted", "complete"])
def test_resume_names_rows_that_changed(complete, out, texts, counter, tmp_path):
    path = tmp_path / out
    if complete:
        featurize(texts, counter, path, chunk_size=5)
    else:
        stop_after(texts, 13, counter, path, chunk_size=5)
    changed = [*texts[:7], "another text", *texts[8:]]
    with pytest.raises(ResumeError, match="was written from other samples: rows 5 to 9 have changed, or come in"):
        featurize(changed, counter, path, chunk_size=5)
    with pytest.raises(ResumeError, match="there are only 8 now"):
        featurize(texts[:8], counter, path, chunk_size=5)
    assert featurize(texts, counter, path, chunk_size=5).n_rows == 25  # nothing was mixed
    stored = featurize(changed, counter, path, chunk_size=5, resume=False)
    assert np.array_equal(stored.to_numpy(), counter.transform(changed))


def test_resume_refuses_more_rows_than_were_written(texts, counter, tmp_path):
    featurize(texts[:13], counter, tmp_path / "a", chunk_size=5)
    for n in (14, 25):
        with pytest.raises(ResumeError, match="holds 13 rows, and there are more now"):
            featurize(texts[:n], counter, tmp_path / "a", chunk_size=5)
    assert featurize(texts[:13], counter, tmp_path / "a", chunk_size=5).n_computed == 0


def test_resume_compares_kept_columns_and_names(texts, embedder, tmp_path):
    table = pd.DataFrame({"text": texts, "label": np.arange(25)})
    options = {"chunk_size": 10, "keep": "label"}
    featurize(table, embedder, tmp_path / "a", **options)
    with pytest.raises(ResumeError, match="rows 10 to 19 have changed"):
        featurize(
            table.assign(label=np.where(table["label"] == 15, 0, table["label"])), embedder, tmp_path / "a", **options
        )
    with pytest.raises(InvalidParameterError, match=r"have the columns \['title'\], and the first rows \['text'\]"):
        featurize(table.rename(columns={"text": "title"}), embedder, tmp_path / "a", **options)
    with pytest.raises(ResumeError, match=r"was written with keep=\['label'\], and keep=\[\] is given"):
        featurize(table, embedder, tmp_path / "a", chunk_size=10, columns=None)
    with pytest.raises(ResumeError, match="chunk_size=10, and chunk_size=20 is given"):
        featurize(table, embedder, tmp_path / "a", chunk_size=20, keep="label")


def test_resume_compares_the_featurizer(texts, embedder, tmp_path):
    featurize(texts, embedder, tmp_path / "a.npy")
    other = WordEmbedder(embedder.embedding_, pooling="max").fit(texts)
    with pytest.raises(ResumeError, match=r"the featurizer WordEmbedder\(.*and this is WordEmbedder\(.*pooling='max'"):
        featurize(texts, other, tmp_path / "a.npy")
    vectors = WordVectors(embedder.embedding_.words, embedder.vectors_ + 1)
    with pytest.raises(ResumeError, match="that was fitted to other samples or has other weights"):
        featurize(texts, WordEmbedder(vectors).fit(texts), tmp_path / "a.npy")
    neutral = WordEmbedder(WordVectors(embedder.embedding_.words, embedder.vectors_), n_jobs=2).fit(texts)
    assert featurize(texts, neutral, tmp_path / "a.npy").n_computed == 0


def test_resume_compares_the_versions(texts, counter, tmp_path):
    featurize(texts, counter, tmp_path / "a")
    log = tmp_path / "a" / LOG
    first, *rest = log.read_text().splitlines(keepends=True)
    settings = json.loads(first)
    settings["versions"]["numpy"] = "1.0"
    log.write_text(json.dumps(settings) + "\n" + "".join(rest))
    with pytest.raises(ResumeError, match=r"was written with numpy 1\.0, and this is"):
        featurize(texts, counter, tmp_path / "a")


def test_resume_notices_a_changed_file_of_an_image(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    featurizer = ImageFeaturizer("tiny/cnn", layer=0).fit([path])
    featurize([str(path)], featurizer, tmp_path / "a")
    assert featurize([str(path)], featurizer, tmp_path / "a").n_computed == 0
    Image.new("RGB", (9, 9), (255, 0, 0)).save(path)
    with pytest.raises(ResumeError, match="rows 0 to 0 have changed"):
        featurize([str(path)], featurizer, tmp_path / "a")


@pytest.mark.parametrize("damage", ["missing", "truncated", "torn log", "torn settings", "leftover"])
def test_resume_computes_what_is_damaged(damage, texts, counter, tmp_path):
    path = tmp_path / "a"
    featurize(texts, counter, path, chunk_size=5)
    whole, part, log = content(path), path / "part-00000002.parquet", path / LOG
    computed = 15
    if damage == "missing":
        part.unlink()
    elif damage == "truncated":
        part.write_bytes(part.read_bytes()[:-1])
    elif damage == "torn log":
        log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:3]) + b'{"rows": 5, "wri')
    elif damage == "torn settings":
        log.write_bytes(b'{"format": 1')
        for one in path.glob("*.parquet"):
            one.unlink()
        computed = 25
    else:
        (path / ".part-00000003.parquet.tmp").write_bytes(b"PAR")
        computed = 0
    assert featurize(texts, counter, path, chunk_size=5).n_computed == computed
    assert content(path) == whole
    assert {one.name for one in path.iterdir()} == {LOG, *whole}


def rewrite_settings(path, **changes):
    """Change the settings in the log of a complete output, which is a file of its own or metadata of Parquet."""

    def changed(log):
        first, _, rest = log.partition(b"\n")
        return json.dumps({**json.loads(first), **changes}).encode() + b"\n" + rest

    if path.suffix == ".parquet":
        table = pq.read_table(path)
        metadata = {name: changed(log) for name, log in table.schema.metadata.items() if b"featurize" in name}
        pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=5)
        return
    log = path / LOG if path.is_dir() else path.with_name(f"{path.name}.jsonl")
    log.write_bytes(changed(log.read_bytes()))


@pytest.mark.parametrize("out", OUTPUTS)
@pytest.mark.parametrize(
    ("number", "advice"),
    [(FORMAT - 1, r"use the .* wrote it, or replace .*resume=False"), (FORMAT + 1, "install a newer")],
)
def test_format_of_another_version_is_refused_and_nothing_is_changed(out, number, advice, texts, counter, tmp_path):
    path = tmp_path / out
    whole = featurize(texts, counter, path, chunk_size=5).to_numpy()
    rewrite_settings(path, format=number, versions={"sktransfer": "0.0.9"})
    before = content(path)
    says = (
        rf"has format {number}, written by sktransfer 0\.0\.9, and this sktransfer .* reads format {FORMAT}: {advice}"
    )
    with pytest.raises(ResumeError, match=says):
        featurize(texts, counter, path, chunk_size=5)
    with pytest.raises(LoadError, match=says):
        load_features(path)
    assert content(path) == before
    replaced = featurize(texts, counter, path, chunk_size=5, resume=False)
    assert replaced.n_computed == 25
    assert np.array_equal(load_features(path).to_numpy(), whole)


@pytest.mark.parametrize("out", OUTPUTS)
def test_resume_refuses_values_of_an_older_version(out, texts, counter, tmp_path):
    path = tmp_path / out
    featurize(texts, counter, path, chunk_size=5)
    rewrite_settings(path, versions={**versions(), "sktransfer": "0.0.9"})
    with pytest.raises(
        ResumeError, match=r"was written with sktransfer 0\.0\.9, and this is .*, whose values may differ"
    ):
        featurize(texts, counter, path, chunk_size=5)
    assert len(load_features(path)) == 25  # complete features can be read


def test_resume_of_an_array_cuts_off_what_is_not_logged(texts, counter, tmp_path):
    whole = featurize(texts, counter, tmp_path / "whole.npy", chunk_size=5).to_numpy()
    stop_after(texts, 13, counter, tmp_path / "a.npy", chunk_size=5)
    with (tmp_path / "a.npy.partial").open("ab") as file:
        file.write(b"half a row")
    stored = featurize(texts, counter, tmp_path / "a.npy", chunk_size=5)
    assert stored.n_computed == 15
    assert np.array_equal(stored.to_numpy(), whole)
    os.truncate(tmp_path / "a.npy", (tmp_path / "a.npy").stat().st_size - 1)
    assert featurize(texts, counter, tmp_path / "a.npy", chunk_size=5).n_computed == 5
    assert np.array_equal(np.load(tmp_path / "a.npy"), whole)
    (tmp_path / "a.npy").rename(tmp_path / "a.npy.partial")  # killed before the last step
    assert featurize(texts, counter, tmp_path / "a.npy", chunk_size=5).n_computed == 0
    assert np.array_equal(np.load(tmp_path / "a.npy"), whole)


def test_resume_after_a_kill_while_parts_are_removed(texts, counter, tmp_path):
    featurize(texts, counter, tmp_path / "parts", chunk_size=5)
    featurize(texts, counter, tmp_path / "a.parquet", chunk_size=5)
    (tmp_path / "a.parquet.parts").mkdir()
    (tmp_path / "parts" / "part-00000003.parquet").rename(tmp_path / "a.parquet.parts" / "part-00000003.parquet")
    assert featurize(texts, counter, tmp_path / "a.parquet", chunk_size=5).n_computed == 0
    assert not (tmp_path / "a.parquet.parts").exists()
    (tmp_path / "a.parquet.parts").mkdir()
    (tmp_path / "a.parquet.parts" / "mine.txt").write_text("mine")
    assert featurize(texts, counter, tmp_path / "a.parquet", chunk_size=5).n_computed == 0
    assert (tmp_path / "a.parquet.parts" / "mine.txt").exists()


def test_resume_false_keeps_a_file_until_the_new_one_is_complete(texts, counter, tmp_path):
    path = tmp_path / "a.parquet"
    featurize(texts, counter, path, chunk_size=5)
    old = path.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        featurize(interrupted(texts[::-1], 13), counter, path, chunk_size=5, resume=False)
    assert path.read_bytes() == old
    assert featurize(texts[::-1], counter, path, chunk_size=5).n_computed == 15  # the replacement is continued
    assert np.array_equal(load_features(path).to_numpy(), counter.transform(texts[::-1]))


def test_resume_with_another_size_of_chunks(texts, embedder, expected, tmp_path):
    stop_after(texts, 13, embedder, tmp_path / "a", chunk_size=5)
    stored = featurize(iter([texts[:7], texts[7:]]), embedder, tmp_path / "a", chunk_size=5)
    assert stored.n_computed == 15
    assert np.array_equal(stored.to_numpy(), expected)


def test_out_is_written_by_one_process_at_a_time(texts, embedder, tmp_path):
    with FileLock(f"{tmp_path / 'a'}.lock"), pytest.raises(InvalidParameterError, match="is being written by another"):
        featurize(texts, embedder, tmp_path / "a")
    assert featurize(texts, embedder, tmp_path / "a").n_rows == 25


def doubled(X):
    return np.asarray([[2 * len(text)] for text in X])


def test_resume_distinguishes_functions(texts, tmp_path):
    featurize(texts, FunctionTransformer(doubled), tmp_path / "a")
    assert featurize(texts, FunctionTransformer(doubled), tmp_path / "a").n_computed == 0
    with pytest.raises(ResumeError, match="the featurizer FunctionTransformer"):
        featurize(texts, FunctionTransformer(lambda X: doubled(X) + 1), tmp_path / "a")


def scaled(factor):
    return FunctionTransformer(lambda X: np.ones((len(X), 1)) * factor)


def test_resume_distinguishes_values_that_functions_use(texts, tmp_path):
    featurize(texts, scaled(2), tmp_path / "a")
    assert featurize(texts, scaled(2), tmp_path / "a").n_computed == 0
    with pytest.raises(ResumeError, match="the featurizer FunctionTransformer"):
        featurize(texts, scaled(3), tmp_path / "a")


def test_resume_ignores_set_output(texts, embedder, tmp_path):
    featurize(texts, embedder, tmp_path / "a")
    framed = clone(embedder).set_output(transform="pandas").fit(texts)
    assert featurize(texts, framed, tmp_path / "a").n_computed == 0


def run(texts, embedder, out):
    featurize(texts, embedder, out, chunk_size=10)


@pytest.mark.process
@pytest.mark.parametrize("out", OUTPUTS)
def test_resume_after_kills_at_random_times(out, embedder, tmp_path):
    rng = np.random.default_rng(len(out))
    texts = [" ".join(rng.choice(embedder.embedding_.words, 2)) for _ in range(600)]
    featurize(texts, embedder, tmp_path / f"whole_{out}", chunk_size=10)
    path, n_killed = tmp_path / out, 0
    context = multiprocessing.get_context("fork")  # the libraries are loaded, so that kills come soon
    for _ in range(5):
        child = context.Process(target=run, args=(texts, embedder, path))
        child.start()
        time.sleep(rng.uniform(0.02, 0.15))
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        n_killed += child.exitcode == -signal.SIGKILL
    assert n_killed > 0
    stored = featurize(texts, embedder, path, chunk_size=10)
    assert stored.n_rows == 600
    assert content(path) == content(tmp_path / f"whole_{out}")
    assert not [one.name for one in tmp_path.iterdir() if one.suffix in (".parts", ".partial", ".lock")]


def test_resume_with_a_text_featurizer_of_another_process_setting(tmp_path):
    texts = ["a good film", "a bad one", "a dull plot"]
    featurizer = TextFeaturizer("tiny/bert", layer=0, batch_size=2).fit(texts)
    featurize(texts, featurizer, tmp_path / "a")
    neutral = TextFeaturizer("tiny/bert", layer=0, batch_size=1, cache=None, verbose=1).fit(texts[:1])
    assert featurize(texts, neutral, tmp_path / "a").n_computed == 0
    with pytest.raises(ResumeError, match="layer=1"):
        featurize(texts, TextFeaturizer("tiny/bert", layer=1).fit(texts), tmp_path / "a")


def test_resume_with_a_generator_that_is_used_up(texts, embedder, tmp_path):
    chunks = (texts[i : i + 5] for i in range(0, 25, 5))
    featurize(chunks, embedder, tmp_path / "a")
    with pytest.raises(ResumeError, match=r"only 0 now\. Pass a new generator if it was used up by an earlier call"):
        featurize(chunks, embedder, tmp_path / "a")


def test_resume_of_an_array_that_was_deleted_starts_anew(texts, embedder, expected, tmp_path):
    featurize(texts, embedder, tmp_path / "a.npy", chunk_size=10)
    (tmp_path / "a.npy").unlink()
    stored = featurize(texts, embedder, tmp_path / "a.npy", chunk_size=5)
    assert stored.n_computed == 25
    assert np.array_equal(stored.to_numpy(), expected)
