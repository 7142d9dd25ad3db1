"""`Runtime`: what a plugin implements to run frozen stages elsewhere than in torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch.export import ExportedProgram

__all__ = ["Runtime"]


class Runtime(ABC):
    """A library that runs frozen stages on the CPU instead of torch.

    Each stage is a model of its own. Its inputs are `"values"` (n, ...) and, for texts, `"mask"` (n, tokens). The
    number of samples and the number of tokens are free. The output has float32 numbers. A plugin returns its runtimes
    from the hook `sktransfer_runtimes`, and users name them by `set_config`.

    Attributes
    ----------
    name : str
        Name for `set_config(runtime=...)`, that of the plugin's entry point.
    precisions : tuple of {"float32", "bfloat16", "int8"}
        Precisions that it computes in. "float32" comes with the promise of torch's values up to 1e-5 of the largest.
    is_automatic : bool
        Whether `runtime="auto"` may choose it, because it was measured to be faster than torch.
    """

    name: str
    precisions: tuple[str, ...] = ("float32",)
    is_automatic: bool = False

    @abstractmethod
    def version(self) -> str:
        """Return the version of the library. It is part of the key of cached values.

        Raises
        ------
        ImportError
            If the library is not installed.
        """

    @abstractmethod
    def convert(self, program: ExportedProgram) -> Any:
        """Return a stage as a model of the library.

        Parameters
        ----------
        program : ExportedProgram
            The stage as `torch.export.export` returns it, in float32.
        """

    def quantize(self, model: Any, batches: Sequence[Mapping[str, np.ndarray]]) -> Any:
        """Return a model with weights in int8. It is called for `precision="int8"` only.

        Parameters
        ----------
        model : object
            Model of `convert`.
        batches : sequence of mapping of str to ndarray
            Inputs that show the range of the values. They do not depend on the samples of the user.
        """
        raise NotImplementedError(f"{self.name} has no precision 'int8'")

    @abstractmethod
    def write(self, model: Any, folder: Path) -> None:
        """Write a model into an empty folder, for other processes.

        Parameters
        ----------
        model : object
            Model of `convert` or `quantize`.
        folder : Path
            Folder that exists.
        """

    @abstractmethod
    def read(self, folder: Path) -> Any:
        """Return the model that `write` has written. Any exception here or in `compile` leads to a new conversion.

        Parameters
        ----------
        folder : Path
            Folder of the model.
        """

    @abstractmethod
    def compile(self, model: Any, precision: str, n_threads: int) -> Callable[[Mapping[str, np.ndarray]], np.ndarray]:
        """Return a function from the inputs of a stage to its output, which several threads call at once.

        Parameters
        ----------
        model : object
            Model of `convert`, `quantize` or `read`.
        precision : str
            One of `precisions`.
        n_threads : int
            Number of threads that call it at once. Each call takes one core.
        """
