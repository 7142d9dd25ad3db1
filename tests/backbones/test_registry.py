from __future__ import annotations

import dataclasses
import sys
from importlib.metadata import EntryPoint

import pytest

import sktransfer.backbones.registry as home
from sktransfer import Backbone, list_backbones, list_plugins, load_backbone
from sktransfer.backbones.plugins import Plugin
from sktransfer.backbones.registry import BUILT_IN, Registry, backbone_rows, modality_of
from sktransfer.exceptions import BackboneNotFoundError, InvalidParameterError, PluginError
from tests.helpers.plugin_zoo import BROKEN, FINDER, offers, toy_spec
from tests.helpers.toys import STAGES

pytest_plugins = ["tests.helpers.plugin_zoo_fixtures"]


def test_a_good_plugin_is_listed_and_its_backbone_loaded(good):
    assert good.sources["good"] == "sktransfer_toy_good"
    assert good.failures == {}
    assert "good/small" in set(list_backbones()["name"])
    backbone = load_backbone("good/small", weights="random")
    assert isinstance(backbone, Backbone)
    assert backbone.stage_names == tuple(STAGES)
    assert not backbone.pretrained


def test_a_plugin_is_imported_without_its_loader(plugin):
    source = offers(toy_spec("lazy/a", loader="not_written:load"))
    made = Registry(entry_points=lambda: [plugin("lazy", source)], environ={})
    assert made.find("lazy/a").loader == "not_written:load"
    assert made.failures == {}


def test_an_interrupt_while_plugins_load_is_not_swallowed(plugin):
    with pytest.raises(KeyboardInterrupt):
        Registry(entry_points=lambda: [plugin("stops", "raise KeyboardInterrupt")], environ={})


def test_failures_are_not_told_where_they_have_nothing_to_do_with_the_name(plugin):
    made = Registry(entry_points=lambda: [plugin("operator", BROKEN["operator"][0])], environ={})
    with pytest.raises(BackboneNotFoundError) as caught:
        made.find("tiny/cnm")
    assert "operator" not in str(caught.value)
    with pytest.raises(BackboneNotFoundError, match="operator = sktransfer_toy_operator: RuntimeError"):
        made.find("absent/cnm")


def test_of_two_plugins_of_one_name_none_is_taken(plugin):
    first = plugin("good", offers(toy_spec("good/small")), module="sktransfer_toy_one")
    second = plugin("good", offers(toy_spec("good/large")), module="sktransfer_toy_two")
    made = Registry(entry_points=lambda: [second, first], environ={})
    assert "good" not in made.sources
    assert set(made.failures) == {"good = sktransfer_toy_one", "good = sktransfer_toy_two"}
    assert not {"sktransfer_toy_one", "sktransfer_toy_two"} & set(sys.modules)
    with pytest.raises(BackboneNotFoundError, match=r"claimed by \w+_toy_two of .* and by \w+_toy_one of"):
        made.find("good/large")


def test_one_install_seen_twice_is_no_clash(plugin):
    entry = plugin("good", offers(toy_spec("good/small")))
    assert (
        Registry(entry_points=lambda: [entry, EntryPoint(entry.name, entry.value, entry.group)], environ={}).failures
        == {}
    )


@pytest.mark.parametrize("name", [built_in.name for built_in in BUILT_IN])
def test_a_plugin_cannot_take_a_built_in_name(name, plugin):
    made = Registry(entry_points=lambda: [plugin(name, offers(toy_spec(f"{name}/cnn")))], environ={})
    assert made.sources[name].startswith("sktransfer.providers.")
    assert "is taken by sktransfer.providers." in str(made.failures[f"{name} = sktransfer_toy_{name}"])


def test_a_built_in_name_stays_taken_where_the_built_in_is_broken(plugin, monkeypatch):
    broken = EntryPoint("tiny", "sktransfer_no_such_module", "sktransfer")
    monkeypatch.setattr(home, "BUILT_IN", (broken,))
    made = Registry(entry_points=lambda: [plugin("tiny", offers(toy_spec("tiny/cnn")))], environ={})
    assert "tiny/cnn" not in made.specs
    assert len(made.failures) == 2


@pytest.mark.parametrize(
    ("allowed", "loaded"), [(None, {"one", "two"}), ("", set()), ("two", {"two"}), (" one , two", {"one", "two"})]
)
def test_plugins_are_filtered_before_they_are_imported(allowed, loaded, plugin):
    entries = [plugin(name, offers(toy_spec(f"{name}/a"))) for name in ("one", "two")]
    environ = {} if allowed is None else {"SKTRANSFER_PLUGINS": allowed}
    made = Registry(entry_points=lambda: entries, environ=environ)
    assert set(made.sources) - {built_in.name for built_in in BUILT_IN} == loaded
    assert {built_in.name for built_in in BUILT_IN} <= set(made.sources)
    assert {name for name in ("one", "two") if f"sktransfer_toy_{name}" in sys.modules} == loaded


def test_strict_raises_a_plugins_failure(plugin):
    entry = plugin("operator", BROKEN["operator"][0])
    with pytest.raises(
        PluginError, match=r"operator = sktransfer_toy_operator could not be loaded.*vision::nms"
    ) as caught:
        Registry(entry_points=lambda: [entry], environ={"SKTRANSFER_STRICT": "1"})
    assert type(caught.value.__cause__) is RuntimeError


def test_a_bare_name_is_found_where_one_provider_lists_it(good):
    assert good.find("other").name == "good/other"
    assert good.find("resnet50").name == "torchvision/resnet50"


def test_a_bare_name_of_several_providers_lists_them(plugin):
    entries = [plugin(name, offers(toy_spec(f"{name}/small"))) for name in ("one", "two")]
    made = Registry(entry_points=lambda: entries, environ={})
    with pytest.raises(BackboneNotFoundError, match=r"several providers.*'one/small', 'two/small'"):
        made.find("small")


@pytest.mark.parametrize(
    ("given", "meant"), [("tiny/cmn", "'tiny/cnn'"), ("good/smal", "'good/small'"), ("resnet5", "'resnet50'")]
)
def test_a_wrong_name_is_answered_with_those_near(given, meant, good):
    with pytest.raises(BackboneNotFoundError, match="Did you mean") as caught:
        good.find(given)
    assert meant in str(caught.value)


@pytest.mark.parametrize("name", ["", "/", "good/", "/small"])
def test_half_a_name_is_not_found(name, good):
    with pytest.raises(BackboneNotFoundError):
        good.find(name)


def test_an_open_family_is_asked_by_name_and_not_listed(plugin):
    made_up = toy_spec("open/NAME").replace("'open/NAME'", "'open/' + name")
    source = f"{FINDER}return None if name == 'absent' else {made_up}\n"
    made = Registry(entry_points=lambda: [plugin("open", source)], environ={})
    assert made.find("open/owner/model").name == "open/owner/model"
    assert not [name for name in made.specs if name.startswith("open/")]
    with pytest.raises(BackboneNotFoundError):
        made.find("open/absent")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("raise KeyError('x')", "bad = sktransfer_toy_bad failed when asked for 'a': KeyError"),
        ("return 'bad/a'", "not str"),
        (f"return {toy_spec('worse/a')}", "lacks the prefix"),
    ],
)
def test_a_finder_that_fails_is_named(body, says, plugin, use):
    made = use(plugin("bad", FINDER + body + "\n"))
    with pytest.raises(PluginError, match=says):
        made.find("bad/a")
    assert modality_of("bad/a") is None


def test_modality_is_told_without_loading(good):
    assert modality_of("good/small") == "image"
    assert modality_of("good/absent") is None
    assert modality_of("hf/someone/never-fetched") is None
    assert modality_of(load_backbone("good/small", weights="random")) == "image"
    assert modality_of(None) is None


def test_listing_filters(good):
    everything = list_backbones()
    assert list(everything.columns) == ["name", "modality", "n_stages", "width", "input_size", "licence"]
    assert list_backbones(pattern="good/*")["name"].tolist() == ["good/small", "good/other"]
    row = list_backbones(pattern="good/small").iloc[0]
    assert (row["modality"], row["n_stages"], row["width"], row["licence"]) == ("image", 3, 5, "unknown")
    assert set(list_backbones("image")["modality"]) == {"image"}
    assert list_backbones("text", "good/*").empty
    assert list(list_backbones(pattern="nothing").columns) == list(everything.columns)
    with pytest.raises(InvalidParameterError, match=r"modality='sound'.*'image', 'text'"):
        list_backbones("sound")


def test_plugins_are_listed_as_a_frame(good):
    frame = list_plugins()
    assert list(frame.columns) == [field.name for field in dataclasses.fields(Plugin)]
    assert frame["name"].tolist() == [*(built_in.name for built_in in BUILT_IN), "good"]
    row = frame.set_index("name").loc["good"]
    assert (row["status"], row["n_backbones"], row["module"]) == ("loaded", 2, "sktransfer_toy_good")
    assert good.plugin("good").n_backbones == 2
    assert good.plugin("absent") is None


def test_a_plugin_that_claims_a_built_in_module_is_no_built_in():
    entry = EntryPoint("tiny", "sktransfer.providers.tiny", "sktransfer")
    made = Registry(entry_points=lambda: [entry], environ={})
    assert "is taken by" in made.failures["tiny = sktransfer.providers.tiny"]
    assert made.plugin("tiny").distribution == "sktransfer"


def test_rows_are_those_of_the_frame(good):
    assert backbone_rows("image", "good/*") == list_backbones("image", "good/*").to_dict("records")
