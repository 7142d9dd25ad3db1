from __future__ import annotations

import torch

from sktransfer.engine.rng import derive_seed, seed_torch


def test_derive_seed_differs_by_each_number_and_its_position():
    seeds = [derive_seed(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    assert len(set(seeds)) == 64
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seed_torch_makes_draws_reproducible():
    with torch.random.fork_rng(devices=[]):
        drawn = []
        for seed in (1, 2**62, 1):
            seed_torch(seed, torch.device("cpu"))
            drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])
