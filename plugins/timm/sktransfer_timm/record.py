"""What a network does, seen from outside: which of its modules are called, in which order, with what."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

__all__ = ["Call", "expanded", "is_chain", "recorded"]


@dataclass(eq=False)
class Call:
    """One call of a module.

    Parameters
    ----------
    name : str
        The module's path in the network, as in `named_modules()`.
    module : nn.Module
        What was called.
    args, kwargs : tuple and dict
        What it was called with; the first argument is the value that flows through.
    output : object
        What it gave.
    calls : list of Call
        The calls that its own forward made, in order.
    """

    name: str
    module: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    output: Any = None
    calls: list[Call] = field(default_factory=list)

    @property
    def value(self) -> Any:
        """The value that came in; None where the module was called without one."""
        return self.args[0] if self.args else None


def recorded(network: nn.Module, run: Callable[[], Any]) -> tuple[list[Call], Any]:
    """Run a part of a network, and return the calls of modules that it made itself, and what it gave.

    Parameters
    ----------
    network : nn.Module
        Whose modules are watched.
    run : callable
        Runs the part.

    Returns
    -------
    calls : list of Call
        The outermost calls, each with those inside it.
    output : object
        What `run` gave.
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
    """Return whether calls hand one tensor on, from `value` to `output`, with nothing computed between them."""
    for call in calls:
        if call.value is not value or not isinstance(call.output, Tensor):
            return False
        value = call.output
    return bool(calls) and value is output


def expanded(calls: Sequence[Call], wanted: Sequence[str]) -> list[Call]:
    """Replace the call of a container by those inside it, where a module inside it is wanted.

    Parameters
    ----------
    calls : sequence of Call
        In order.
    wanted : sequence of str
        Paths of modules. A container that does more than calling its parts one after the other stays as it is.
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
