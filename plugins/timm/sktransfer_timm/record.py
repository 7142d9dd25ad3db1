"""Record the calls of a network's modules with hooks: their order, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

__all__ = ["Call", "expanded", "is_chain", "recorded"]


@dataclass(eq=False)
class Call:
    """Call of a module.

    Parameters
    ----------
    name : str
        Path of the module in the network, as in `named_modules()`.
    module : nn.Module
        Module that was called.
    args, kwargs : tuple and dict
        Arguments of the call. The first one is the value passed through the network.
    output : object
        Output of the call.
    calls : list of Call
        Calls inside its own forward, in order.
    """

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any = None
    calls: list[Call] = field(default_factory=list)

    @property
    def value(self) -> Any:
        """First argument of the call, or None."""
        return self.args[0] if self.args else None


def recorded(network: nn.Module, run: Callable[[], Any]) -> tuple[list[Call], Any]:
    """Run a part of a network, and return its calls of modules and its output.

    Parameters
    ----------
    network : nn.Module
        Network whose modules are recorded.
    run : callable
        Function that runs the part.

    Returns
    -------
    calls : list of Call
        Outermost calls, each with the calls inside it.
    output : object
        Return value of `run`.
    """
    top: list[Call] = []
    with _watched(network, [top]):
        output = run()
    return top, output


@contextmanager
def _watched(network: nn.Module, levels: list[list[Call]]) -> Iterator[None]:
    names = {id(module): name for name, module in network.named_modules()}

    def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        call = Call(names[id(module)], module, args, kwargs)
        levels[-1].append(call)
        levels.append(call.calls)

    def after(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        levels.pop()
        levels[-1][-1].output = output

    with ExitStack() as hooks:
        for module in network.modules():
            hooks.callback(module.register_forward_pre_hook(before, with_kwargs=True).remove)
            hooks.callback(module.register_forward_hook(after).remove)
        yield


def is_chain(calls: Sequence[Call], value: Any, output: Any) -> bool:
    """Return whether each call takes the output of the one before it, from `value` to `output`."""
    for call in calls:
        if call.value is not value or not isinstance(call.output, Tensor):
            return False
        value = call.output
    return bool(calls) and value is output


def expanded(calls: Sequence[Call], wanted: Sequence[str]) -> list[Call]:
    """Replace the calls of containers that contain wanted modules by the calls inside them.

    Parameters
    ----------
    calls : sequence of Call
        Calls in order.
    wanted : sequence of str
        Paths of modules. A container that does more than call its parts one after the other is kept.
    """
    flat: list[Call] = []
    for call in calls:
        inside = any(path.startswith(f"{call.name}.") for path in wanted)
        extra = len(call.args) > 1 or call.kwargs
        if inside and not extra and is_chain(call.calls, call.value, call.output):
            flat += expanded(call.calls, wanted)
        else:
            flat.append(call)
    return flat
