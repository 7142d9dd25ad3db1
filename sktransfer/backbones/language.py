"""Language-model heads of backbones: predict tokens from the values of the last stage."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from sktransfer.backbones.generators import private_draws
from sktransfer.exceptions import InvalidParameterError, PluginError
from sktransfer.weights.reading import copy_state

__all__ = ["LM_KINDS", "HeldHead", "LanguageModelHead", "own_state", "rebind"]

LM_KINDS = ("masked", "causal")


class LanguageModelHead(nn.Module):
    """Head that predicts a token at each position, for `lm_head` of a backbone.

    A parameter that is also a parameter of a stage is tied to it. It exists once in memory and in files, and training
    that stage moves both.

    Parameters
    ----------
    kind : {"masked", "causal"}
        "masked" predicts the token at a position whose input is the mask token. "causal" predicts the next token.
    *modules : nn.Module
        Modules in order. The first takes the last stage's values (n, tokens, channels), the last one returns logits
        (n, tokens, n_vocabulary). They process each position separately.

    Raises
    ------
    InvalidParameterError
        If the kind is not allowed.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sktransfer.backbones import LanguageModelHead
    >>> table = nn.Embedding(100, 16)  # of stage 0
    >>> output = nn.Linear(16, 100, bias=False)
    >>> output.weight = table.weight
    >>> head = LanguageModelHead("masked", nn.LayerNorm(16), output)
    >>> head(torch.zeros(2, 5, 16)).shape
    torch.Size([2, 5, 100])
    """

    def __init__(self, kind: str, *modules: nn.Module) -> None:
        super().__init__()
        if kind not in LM_KINDS:
            raise InvalidParameterError(f"kind={kind!r} must be one of {LM_KINDS}")
        self.kind = kind
        self.body = nn.Sequential(*modules)

    def forward(self, values: Tensor, mask: Tensor | None = None, targets: Tensor | None = None) -> Tensor:
        """Return logits (n, tokens, n_vocabulary).

        Parameters
        ----------
        values : Tensor of shape (n, tokens, channels)
            Values of the last stage.
        mask : Tensor of shape (n, tokens), default=None
            Not needed, because positions are processed separately.
        targets : Tensor of shape (n, tokens), default=None
            Tokens to predict, and -100 at positions that need no prediction. Only the logits (m, n_vocabulary) of the
            others are computed.
        """
        if targets is not None:
            values = values[targets != -100]  # (m, channels)
        logits: Tensor = self.body(values)  # (n, tokens, n_vocabulary) or (m, n_vocabulary)
        return logits


class HeldHead:
    """The language-model head of a backbone, or the function that reads it, which runs when it is first asked for.

    Parameters
    ----------
    given : LanguageModelHead or callable
        The head, or a function without arguments that returns it, or None if the weights have none.
    """

    def __init__(self, given: LanguageModelHead | Callable[[], LanguageModelHead | None] | None) -> None:
        self._given = given

    def get(self, name: str, seed: Callable[[], int]) -> LanguageModelHead | None:
        """Return the head in evaluation mode without gradients, or None.

        Parameters
        ----------
        name : str
            Name of the backbone, for messages.
        seed : callable
            Returns the seed of weights that the function draws.

        Raises
        ------
        PluginError
            If the head is of another type.
        """
        if "_head" not in self.__dict__:
            head: Any = self._given
            if head is not None and not isinstance(head, nn.Module):
                with private_draws(seed()):
                    head = head()
            if not isinstance(head, (LanguageModelHead, type(None))):
                raise PluginError(f"{name}: lm_head must be a LanguageModelHead or None, not {type(head).__name__}")
            if head is not None:
                head.eval().requires_grad_(False)
            self.__dict__.setdefault("_head", head)  # of two threads that ask at once, the first one's is kept
        found: LanguageModelHead | None = self.__dict__["_head"]
        return found


def rebind(
    head: LanguageModelHead, before: nn.Module, after: nn.Module, state: Mapping[str, Tensor] | None = None
) -> LanguageModelHead | None:
    """Return a head whose tied parameters are those of other stages.

    Parameters
    ----------
    head : LanguageModelHead
        Head, not changed.
    before, after : nn.Module
        Stages that its parameters are tied to, and those that they shall be tied to, of the same parameter names.
    state : mapping of str to Tensor, default=None
        Other values of the parameters of its own, as `own_state` returns them. None shares those of the head.

    Returns
    -------
    head : LanguageModelHead or None
        None if the other stages have no such parameters.

    Raises
    ------
    LoadError
        If the state does not fit.
    """
    names = {id(parameter): name for name, parameter in before.named_parameters()}
    others = dict(after.named_parameters(remove_duplicate=False))
    memo: dict[int, Any] = {}
    for parameter in head.parameters():
        if id(parameter) in names:
            other = others.get(names[id(parameter)])
            if other is None or other.shape != parameter.shape:
                return None
            memo[id(parameter)] = other
        elif state is None:
            memo[id(parameter)] = parameter
    bound = copy.deepcopy(head, memo)
    if state is not None:
        copy_state(own_state(bound, after), state, "the language-model head")
    return bound


def own_state(head: nn.Module, stages: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a head that are not those of a stage, each of them once.

    Parameters
    ----------
    head : nn.Module
        Head.
    stages : nn.Module
        Stages that it may be tied to.
    """
    seen = {id(tensor) for tensor in (*stages.parameters(), *stages.buffers())}
    own = {}
    for name, tensor in head.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            own[name] = tensor.detach()
    return own
