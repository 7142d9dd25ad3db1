"""Recommended backbones."""

from __future__ import annotations

import json
from dataclasses import replace

import huggingface_hub
import numpy as np
import pandas as pd
import pytest

from sktransfer import config_context, list_backbones, rank_backbones, recommend_backbones
from sktransfer.backbones.registry import registry
from sktransfer.cli import main
from sktransfer.exceptions import BackboneNotFoundError, InvalidParameterError
from sktransfer.testing.samples import make_samples
from tests.helpers.huggingface_folders import link_all_minilm, make_folder
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 40)
TEXTS, MOODS = make_samples("text", 30)
BERTS = ["tiny/bert", "hf/" + small_bert()]
COLUMNS = ["name", "modality", "score", "layer", "samples_per_second", "n_parameters", "bytes", "input_size"]
COLUMNS += ["accuracy", "benchmark", "language", "licence", "available", "reason"]
LARGE = [f"torchvision/{name}" for name in ("vgg16", "resnet18", "efficientnet_v2_s", "vit_h_14")] + ["tiny/cnn"]


def test_recommend_backbones_facts_are_those_of_list_backbones():
    table = recommend_backbones(n_best=20)
    assert list(table.columns) == COLUMNS
    shared = ["modality", "bytes", "input_size", "accuracy", "benchmark", "language", "licence", "available"]
    facts = list_backbones().set_index("name")
    for row in table.itertuples():
        expected, given = facts.loc[row.name], table.set_index("name").loc[row.name]
        pd.testing.assert_series_equal(given[shared], expected[shared], check_names=False)
    assert table["score"].isna().all()
    assert table["modality"].is_monotonic_increasing
    for _, rows in table.groupby("modality"):
        assert rows["accuracy"].dropna().is_monotonic_decreasing
        assert rows["accuracy"].isna().is_monotonic_increasing  # those of unknown accuracy come last


def test_recommend_backbones_n_best_keeps_those_that_are_here():
    table = recommend_backbones(n_best=1)
    assert {"tiny/cnn", "tiny/bert"} <= set(table["name"])
    for modality in ("image", "text"):
        assert (table.loc[table["modality"] == modality, "available"].iloc[1:] == "here").all()
    alone = recommend_backbones(modality="text", n_best=1)
    assert alone["name"].tolist() == table.loc[table["modality"] == "text", "name"].tolist()
    assert table.loc[table["name"] == "tiny/bert", "language"].tolist() == ["en"]


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ("laptop", [LARGE[1], "tiny/cnn"]),
        ("gpu", [LARGE[2], LARGE[0], LARGE[1], "tiny/cnn"]),
        (None, [LARGE[3], LARGE[2], LARGE[0], LARGE[1], "tiny/cnn"]),
    ],
)
def test_recommend_backbones_budget_limits_parameters_and_pixels(budget, expected):
    table = recommend_backbones(candidates=LARGE, budget=budget)
    assert table["name"].tolist() == expected


def test_recommend_backbones_of_texts_by_budget():
    small, large = (recommend_backbones(modality="text", budget=budget, n_best=20) for budget in ("laptop", "gpu"))
    assert small["name"].tolist()[:2] == ["hf/BAAI/bge-small-en-v1.5", "hf/intfloat/e5-small-v2"]
    assert large["name"].tolist()[:2] == ["hf/BAAI/bge-base-en-v1.5", "hf/BAAI/bge-small-en-v1.5"]
    assert set(small["name"]) < set(large["name"])
    # The table of token embeddings, 82% of this model, costs no computation.
    multilingual = small[small["language"] == "multilingual"].set_index("name")
    assert multilingual["n_parameters"]["hf/intfloat/multilingual-e5-small"] > 100_000_000
    assert small["reason"][0] == (
        "published accuracy 74.1% on MTEB English classification; reads English; its weights would be downloaded, "
        "133 MB"
    )
    assert "reads many languages" in multilingual["reason"]["hf/intfloat/multilingual-e5-small"]


def test_recommend_backbones_ranks_a_listed_model_in_the_cache_of_the_hub_once(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(link_all_minilm(tmp_path)))
    table = recommend_backbones(TEXTS, MOODS)
    name = "hf/sentence-transformers/all-MiniLM-L6-v2"
    assert table["name"].tolist().count(name) == 1
    row = table.set_index("name").loc[name]
    assert (row["available"], row["licence"], row["accuracy"]) == ("here", "Apache-2.0", 0.6306)
    assert np.isfinite(row["score"])
    assert set(table["name"][:2]) == {name, "tiny/bert"}
    ranked, listed = recommend_backbones(candidates=[name]), recommend_backbones(candidates=[name], budget=None)
    assert ranked["name"].tolist() == listed["name"].tolist() == [name]


def test_recommend_backbones_reason_names_accuracy_size_and_licence():
    reasons = recommend_backbones(candidates=LARGE, budget=None).set_index("name")["reason"]
    assert reasons["torchvision/resnet18"] == (
        "published accuracy 69.8% on ImageNet-1k; its weights would be downloaded, 47 MB"
    )
    assert reasons["torchvision/vit_h_14"].endswith("its licence excludes commercial use")  # CC-BY-NC-4.0
    assert "commercial" not in reasons["torchvision/vgg16"]


def test_recommend_backbones_prefers_weights_that_are_here_if_downloads_are_forbidden():
    with config_context(download="never"):
        assert recommend_backbones(modality="image")["name"].iloc[0] == "tiny/cnn"


@pytest.mark.parametrize("y", [MOODS, np.linspace(0, 1, 30)], ids=["labels", "numbers"])
def test_recommend_backbones_ranks_on_the_data_as_rank_backbones(y):
    table = recommend_backbones(TEXTS, y, candidates=BERTS)
    ranking = rank_backbones(BERTS, TEXTS, y, metrics="logme", target="auto").drop_duplicates("backbone")
    assert table["name"].tolist() == ranking["backbone"].tolist()
    np.testing.assert_allclose(table["score"], ranking["logme"])
    assert table["layer"].tolist() == ranking["layer"].tolist()
    assert (table["samples_per_second"] > 0).all()
    assert table["n_parameters"].notna().all()
    assert table["reason"][0].startswith(f"rank 1 of 2 on 30 samples, by its layer {table['layer'][0]}; ")


def test_recommend_backbones_ranked_ones_come_before_published_accuracies():
    table = recommend_backbones(IMAGES, LABELS, subsample=20, random_state=0)
    assert table["name"].iloc[0] == "tiny/cnn"
    assert "measured on 20 samples" in table["reason"].iloc[0]
    assert table["score"].notna().tolist() == [True] + [False] * (len(table) - 1)


def test_recommend_backbones_measures_speed_without_y():
    table = recommend_backbones(TEXTS, candidates=BERTS).set_index("name")
    assert (table["samples_per_second"] > 0).all()
    assert table["score"].isna().all()


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.UnknownWordsWarning")  # of the toy's vocabulary
def test_recommend_backbones_finds_models_in_the_cache_of_the_hub(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--someone--small" / "snapshots" / ("a" * 40)
    make_folder("bert", snapshot)
    (tmp_path / "models--someone--small" / "refs").mkdir()
    (tmp_path / "models--someone--small" / "refs" / "main").write_text("a" * 40)
    other = tmp_path / "models--someone--other" / "snapshots" / ("a" * 40)
    other.mkdir(parents=True)
    (other / "config.json").write_text(json.dumps({"model_type": "unheard of"}))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    table = recommend_backbones(TEXTS, MOODS).set_index("name")
    assert {"hf/someone/small", "tiny/bert"} <= set(table.index)
    assert "hf/someone/other" not in table.index
    row = table.loc["hf/someone/small"]
    assert (row["available"], row["licence"]) == ("here", "unknown")
    assert row["bytes"] == sum(file.stat().st_size for file in snapshot.glob("*.safetensors"))
    assert np.isfinite(row["score"])


def test_recommend_backbones_lists_one_that_cannot_be_loaded(monkeypatch):
    broken = replace(registry().find("tiny/cnn"), name="tiny/broken", loader="sktransfer.nowhere:load")
    monkeypatch.setitem(registry().specs, "tiny/broken", broken)
    table = recommend_backbones(IMAGES, LABELS, candidates=["tiny/broken", "tiny/cnn"])
    assert table["name"].tolist() == ["tiny/cnn", "tiny/broken"]
    assert "could not be loaded (tiny/broken: its loader 'sktransfer.nowhere:load'" in table["reason"][1]


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        (
            {"budget": "laptp"},
            InvalidParameterError,
            r"budget='laptp' must be one of \('laptop', 'gpu'\).*Did you mean",
        ),
        ({"modality": "sound"}, InvalidParameterError, "modality='sound'"),
        ({"n_best": 0}, InvalidParameterError, "n_best=0"),
        ({"y": MOODS}, InvalidParameterError, "y is given without X"),
        ({"X": TEXTS, "candidates": ["tiny/cnn", "tiny/bert"]}, InvalidParameterError, "must take texts.*tiny/cnn"),
        ({"candidates": ["torchvision/vgg16"]}, InvalidParameterError, "allows 30,000,000 parameters.*budget='gpu'"),
        ({"candidates": []}, InvalidParameterError, "there is no backbone with pretrained weights"),
        ({"candidates": "tiny/cnn"}, InvalidParameterError, "must be a list of names"),
        ({"candidates": ["hf/someone/absent"]}, InvalidParameterError, r"load_backbone\('hf/someone/absent'\) fetches"),
        ({"candidates": ["tiny/cnm"]}, BackboneNotFoundError, "tiny/cnm"),
        ({"X": np.zeros((3, 64)), "y": [0, 1, 0]}, InvalidParameterError, "Pass modality='image'"),
    ],
)
def test_recommend_backbones_parameters_that_are_not_allowed(parameters, error, message):
    with pytest.raises(error, match=message):
        recommend_backbones(**parameters)


def test_recommend_prints_a_table_and_json(capsys):
    assert main(["recommend", "--modality", "text"]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["name", "modality", "n_parameters"]
    assert any(row.startswith("tiny/bert ") for row in rows)
    assert main(["recommend", "--modality", "image", "--budget", "gpu", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert (first["name"], first["input_size"], first["language"]) == (
        "torchvision/efficientnet_v2_l",
        [480, 480],
        None,
    )
    assert main(["recommend", "--budget", "gp"]) == 2
    assert "Did you mean 'gpu'?" in capsys.readouterr().err


def test_recommend_backbones_of_a_table_names_the_column_to_pass():
    table = pd.DataFrame({"review": ["a good film", "a bad one to see"], "stars": [5.0, 1.5]})
    with pytest.raises(InvalidParameterError, match=r"X has 2 columns, .* pass X\['review'\] as X"):
        recommend_backbones(table, [0, 1])
    with pytest.raises(InvalidParameterError, match="none of them holds images or texts"):
        recommend_backbones(table[["stars"]].assign(size=[1.5, 2.5]))


def test_recommend_backbones_gives_one_backbone_no_rank():
    reason = recommend_backbones(["a good film", "a bad one"] * 6, [0, 1] * 6, candidates=["tiny/bert"])["reason"][0]
    assert reason.startswith("measured on 12 samples, by its layer ")


def test_recommend_backbones_budget_that_does_not_exist():
    with pytest.raises(InvalidParameterError, match=r"budget='cpu' must be one of \('laptop', 'gpu'\)$"):
        recommend_backbones(budget="cpu")
