"""Fixed noisy copies of samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.objectives.base import Objective
from sktransfer.samples.base import content_hash
from sktransfer.tasks.base import Targets

__all__ = ["NoisyCopies"]


class NoisyCopies(PreprocessedSamples):
    """Fixed noisy copies of preprocessed samples, as samples of their own, which a cache can serve.

    The noise depends on the content of the sample, the number of the copy, the objective and the seed alone. Equal
    samples have equal copies, also in other folds and processes.

    Parameters
    ----------
    inputs : PreprocessedSamples
        Samples.
    objective : Objective
        Objective that changes its input.
    rows, copies : ndarray of shape (n_copies,) of int
        Row in `inputs` of each copy, and the number of the copy among those of this row.
    seed : int
        Seed of the noise.
    """

    def __init__(
        self, inputs: PreprocessedSamples, objective: Objective, rows: np.ndarray, copies: np.ndarray, seed: int
    ) -> None:
        super().__init__(inputs.samples.take(rows), inputs.preprocess)
        self.inputs, self.objective, self.rows, self.copies, self.seed = inputs, objective, rows, copies, seed
        self._noisy: dict[int, tuple[Tensor, Tensor]] = {}  # only of samples that are cheap to hold

    def keys(self, rows: Sequence[int]) -> list[bytes]:
        """Return the hash of the content of each of some copies."""
        settings, keys = (
            (repr(self.objective), str(self.seed)),
            self.inputs.samples.keys(self.rows[list(rows)].tolist()),
        )
        return [content_hash("noisy", key, *settings, str(self.copies[row])) for row, key in zip(rows, keys)]

    def tensors(self, rows: Sequence[int]) -> list[Tensor]:
        """Return the input of the first stage per copy: (3, height, width) or (tokens,)."""
        return [values for values, _ in self._corrupted(rows)]

    def targets(self, clean: Targets) -> Targets:
        """Return the targets of the copies.

        Parameters
        ----------
        clean : Targets
            Targets of the samples without noise.
        """
        of_copies = clean.take(self.rows)
        if not isinstance(of_copies.values, list):
            return of_copies
        return Targets([target for _, target in self._corrupted(range(len(self)))], of_copies.weight)

    def warn_of_unread(self) -> None:
        """Warn of the samples that were truncated or otherwise read with a loss."""
        self.inputs.warn_of_unread()

    def _corrupted(self, rows: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
        """Return the values and the target of each copy."""
        new = [row for row in dict.fromkeys(rows) if row not in self._noisy]
        clean = self.inputs.tensors([int(self.rows[row]) for row in new])
        made = {row: self._corrupt(row, values) for row, values in zip(new, clean, strict=True)}
        if self.batching.is_cheap:
            self._noisy.update(made)
        return [made[row] if row in made else self._noisy[row] for row in rows]

    def _corrupt(self, row: int, values: Tensor) -> tuple[Tensor, Tensor]:
        # A generator of its own: samples are read in several threads.
        generator = torch.Generator().manual_seed(int.from_bytes(self.keys([row])[0][:7], "big"))
        arguments = {"values": values[None]}  # (1, ...)
        if self.is_ragged:
            arguments["mask"] = torch.ones(1, len(values), dtype=torch.bool)  # (1, n_tokens)
        noisy, targets = self.objective.corrupt(arguments, values[None], generator)
        return noisy["values"][0], targets[0]
