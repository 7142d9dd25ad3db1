from __future__ import annotations

import threading

import pytest

from sktransfer import config_context, get_config, set_config
from sktransfer.exceptions import InvalidParameterError


@pytest.fixture(autouse=True)
def _as_before():
    before = get_config()
    yield
    set_config(**before)


def in_thread(function):
    values = []
    thread = threading.Thread(target=lambda: values.append(function()))
    thread.start()
    thread.join()
    return values[0]


def test_get_config_defaults():
    assert get_config() == {
        "download": "auto",
        "cache_memory": 2 * 1024**3,
        "cache_disk": 10 * 1024**3,
        "cache_device": 2 * 1024**3,
        "cache_dtype": "auto",
        "compile": False,
        "weights_path": (),
        "runtime": "torch",
        "runtime_cache": "",
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "openvinno",
            r"runtime='openvinno' is not installed: .*choose from \['torch', 'auto'.* Did you mean 'openvino'",
        ),
        ("hf", r"runtime='hf' is not installed: install the plugin"),  # a plugin without a runtime
    ],
)
def test_set_config_runtime_must_be_installed(name, message):
    with pytest.raises(InvalidParameterError, match=message):
        set_config(runtime=name, download="never")
    with pytest.raises(InvalidParameterError, match=message), config_context(runtime=name):
        pass
    assert (get_config()["runtime"], get_config()["download"]) == ("torch", "auto")


def test_set_config_runtime_cache_takes_a_folder_that_may_not_exist(tmp_path):
    with config_context(runtime="auto", runtime_cache=tmp_path / "new"):
        assert get_config()["runtime"] == "auto"
        assert get_config()["runtime_cache"] == str(tmp_path / "new")
        with config_context(runtime_cache=""):
            assert get_config()["runtime_cache"] == ""
    for wrong in ("", 3):
        with pytest.raises(InvalidParameterError, match="must be 'torch', 'auto' or the name of a runtime"):
            set_config(runtime=wrong)
    with pytest.raises(InvalidParameterError, match="runtime_cache=3 must be the path of a folder"):
        set_config(runtime_cache=3)


def test_set_config_weights_path_takes_existing_paths(tmp_path):
    with config_context(weights_path=tmp_path):
        assert get_config()["weights_path"] == (str(tmp_path),)
        with config_context(weights_path=[str(tmp_path), tmp_path / ".."]):
            assert len(get_config()["weights_path"]) == 2
        with config_context(weights_path=()):
            assert get_config()["weights_path"] == ()
    with pytest.raises(InvalidParameterError, match="there is no file or folder"):
        set_config(weights_path=tmp_path / "none")
    for wrong in (3, [3], {tmp_path: 1}):
        with pytest.raises(InvalidParameterError, match="must be the path of a file or folder"):
            set_config(weights_path=wrong)


def test_set_config_and_get_config():
    set_config(download="never")
    assert get_config()["download"] == "never"


def test_set_config_none_leaves_a_setting():
    set_config(download="never")
    set_config()
    set_config(download=None)
    assert get_config()["download"] == "never"


def test_get_config_returns_a_copy():
    get_config()["download"] = "never"
    assert get_config()["download"] == "auto"


def test_config_context_restores_settings():
    with config_context(download="never"):
        with config_context(download="auto"):
            assert get_config()["download"] == "auto"
        assert get_config()["download"] == "never"
    assert get_config()["download"] == "auto"
    with pytest.raises(ZeroDivisionError), config_context(download="never"):
        raise ZeroDivisionError
    assert get_config()["download"] == "auto"


@pytest.mark.parametrize("value", ["yes", True, 1, ["auto"], ""])
def test_download_error_names_the_allowed_values(value):
    for change in (set_config, lambda **given: config_context(**given).__enter__()):
        with pytest.raises(InvalidParameterError, match=r"download=.*'auto', 'never'"):
            change(download=value)
    assert get_config()["download"] == "auto"


@pytest.mark.parametrize("name", ["cache_memory", "cache_disk", "cache_device"])
@pytest.mark.parametrize(
    ("given", "n_bytes"),
    [
        (1, 1),
        ("123", 123),
        ("4 GB", 4 * 10**9),
        ("4gb", 4 * 10**9),
        ("1.5 TB", 1_500_000_000_000),
        (" 2 kB ", 2000),
        ("2 MiB", 2 * 1024**2),
        ("2KiB", 2048),
        ("7 bytes", 7),
        ("7 B", 7),
    ],
)
def test_cache_memory_cache_disk_and_cache_device_accept_units(name, given, n_bytes):
    before = get_config()
    with config_context(**{name: given}):
        assert get_config() == before | {name: n_bytes}
    set_config(**{name: given})
    assert get_config() == before | {name: n_bytes}


@pytest.mark.parametrize("name", ["cache_memory", "cache_disk", "cache_device"])
@pytest.mark.parametrize(
    "value", [0, -1, "", "GB", "4 XB", "4 iB", "-4 GB", "4 GB GB", "0 GB", 1.5, True, [1], "4,5 GB"]
)
def test_cache_memory_cache_disk_and_cache_device_reject_invalid_sizes(name, value):
    before = get_config()
    for change in (set_config, lambda **given: config_context(**given).__enter__()):
        with pytest.raises(InvalidParameterError, match=rf"{name}=.* must be a number of bytes .* '4 GB'"):
            change(**{name: value})
    assert get_config() == before


@pytest.mark.parametrize("dtype", ["auto", "float16", "bfloat16"])
def test_cache_dtype_allowed_values(dtype):
    set_config(cache_dtype=dtype)
    assert get_config()["cache_dtype"] == dtype


@pytest.mark.parametrize("value", ["float32", "half", 16, True, ["float16"]])
def test_cache_dtype_rejects_other_values(value):
    with pytest.raises(InvalidParameterError, match=r"cache_dtype=.*'auto', 'float16', 'bfloat16'"):
        set_config(cache_dtype=value)


def test_set_config_changes_nothing_if_one_value_is_invalid():
    before = get_config()
    with pytest.raises(InvalidParameterError):
        set_config(download="never", cache_memory=100, cache_disk="nothing")
    assert get_config() == before


def test_set_config_rejects_an_unknown_setting():
    with pytest.raises(TypeError, match="downloads"):
        set_config(downloads="auto")


def test_set_config_in_the_main_thread_applies_to_later_threads():
    set_config(download="never")
    assert in_thread(lambda: get_config()["download"]) == "never"
    set_config(download="auto")
    assert in_thread(lambda: get_config()["download"]) == "auto"


def test_set_config_in_a_thread_applies_to_that_thread():
    def other():
        set_config(download="never")
        return get_config()["download"]

    assert in_thread(other) == "never"
    assert get_config()["download"] == "auto"
    assert in_thread(lambda: get_config()["download"]) == "auto"


def test_set_config_in_the_main_thread_does_not_change_running_threads():
    started, changed = threading.Event(), threading.Event()
    values = []

    def other():
        values.append(get_config()["download"])
        started.set()
        changed.wait(10)
        values.append(get_config()["download"])

    thread = threading.Thread(target=other)
    thread.start()
    assert started.wait(10)
    set_config(download="never")
    changed.set()
    thread.join()
    assert values == ["auto", "auto"]
