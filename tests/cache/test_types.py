from __future__ import annotations

import pytest

from sktransfer.cache.types import CacheInfo, readable_size


def test_cache_info_repr():
    info = CacheInfo("memory", 12, 3, 15, 46_080, 2 * 1024**3)
    assert repr(info) == "<cache memory: 15 values, 46.1 kB of 2.1 GB; 12 hits, 3 misses>"


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (2 * 10**12, "2.0 TB"),
        (5 * 10**15, "5000.0 TB"),
    ],
)
def test_readable_size(n_bytes, text):
    assert readable_size(n_bytes) == text
