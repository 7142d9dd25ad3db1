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
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def test_defaults():
    assert get_config() == {
        "download": "auto",
        "cache_memory": 2 * 1024**3,
        "cache_disk": 10 * 1024**3,
        "cache_dtype": "auto",
        "compile": False,
    }


def test_set_and_get():
    set_config(download="never")
    assert get_config()["download"] == "never"


def test_none_leaves_a_setting():
    set_config(download="never")
    set_config()
    set_config(download=None)
    assert get_config()["download"] == "never"


def test_what_get_returns_is_a_copy():
    get_config()["download"] = "never"
    assert get_config()["download"] == "auto"


def test_a_context_restores_also_after_an_error_and_when_nested():
    with config_context(download="never"):
        with config_context(download="auto"):
            assert get_config()["download"] == "auto"
        assert get_config()["download"] == "never"
    assert get_config()["download"] == "auto"
    with pytest.raises(ZeroDivisionError), config_context(download="never"):
        raise ZeroDivisionError
    assert get_config()["download"] == "auto"


@pytest.mark.parametrize("value", ["yes", True, 1, ["auto"], ""])
def test_a_bad_value_names_the_parameter_and_what_is_allowed(value):
    for change in (set_config, lambda **given: config_context(**given).__enter__()):
        with pytest.raises(InvalidParameterError, match=r"download=.*'auto', 'never'"):
            change(download=value)
    assert get_config()["download"] == "auto"


@pytest.mark.parametrize("name", ["cache_memory", "cache_disk"])
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
def test_sizes_are_bytes_or_what_people_write(name, given, n_bytes):
    before = get_config()
    with config_context(**{name: given}):
        assert get_config() == before | {name: n_bytes}
    set_config(**{name: given})
    assert get_config() == before | {name: n_bytes}


@pytest.mark.parametrize("name", ["cache_memory", "cache_disk"])
@pytest.mark.parametrize(
    "value", [0, -1, "", "GB", "4 XB", "4 iB", "-4 GB", "4 GB GB", "0 GB", 1.5, True, [1], "4,5 GB"]
)
def test_a_size_that_is_none_is_refused(name, value):
    before = get_config()
    for change in (set_config, lambda **given: config_context(**given).__enter__()):
        with pytest.raises(InvalidParameterError, match=rf"{name}=.* must be a number of bytes .* '4 GB'"):
            change(**{name: value})
    assert get_config() == before


@pytest.mark.parametrize("dtype", ["auto", "float16", "bfloat16"])
def test_dtypes_of_the_stores(dtype):
    set_config(cache_dtype=dtype)
    assert get_config()["cache_dtype"] == dtype


@pytest.mark.parametrize("value", ["float32", "half", 16, True, ["float16"]])
def test_other_dtypes_are_refused(value):
    with pytest.raises(InvalidParameterError, match=r"cache_dtype=.*'auto', 'float16', 'bfloat16'"):
        set_config(cache_dtype=value)


def test_one_wrong_setting_changes_none():
    before = get_config()
    with pytest.raises(InvalidParameterError):
        set_config(download="never", cache_memory=100, cache_disk="nothing")
    assert get_config() == before


def test_an_unknown_setting_is_refused():
    with pytest.raises(TypeError, match="downloads"):
        set_config(downloads="auto")


def test_threads_started_later_inherit_what_the_main_thread_set():
    set_config(download="never")
    assert in_thread(lambda: get_config()["download"]) == "never"
    set_config(download="auto")
    assert in_thread(lambda: get_config()["download"]) == "auto"


def test_a_threads_own_setting_stays_in_that_thread():
    def other():
        set_config(download="never")
        return get_config()["download"]

    assert in_thread(other) == "never"
    assert get_config()["download"] == "auto"
    assert in_thread(lambda: get_config()["download"]) == "auto"


def test_a_running_thread_keeps_its_settings_when_the_main_thread_changes_its_own():
    started, changed = threading.Event(), threading.Event()
    found = []

    def other():
        found.append(get_config()["download"])
        started.set()
        changed.wait(10)
        found.append(get_config()["download"])

    thread = threading.Thread(target=other)
    thread.start()
    assert started.wait(10)
    set_config(download="never")
    changed.set()
    thread.join()
    assert found == ["auto", "auto"]
