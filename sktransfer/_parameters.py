"""Parameters that several estimators share: declared and documented once.

An estimator lists its parameters with `@with_parameters(...)`. The decorator writes `__init__`, which only stores, with
a real signature, and puts the descriptions where the class docstring has the line `{parameters}`.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

__all__ = ["REQUIRED", "Parameter", "with_parameters"]

Class = TypeVar("Class", bound=type)
REQUIRED: Any = inspect.Parameter.empty  # the default of a parameter that must be given


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A parameter of an estimator.

    Parameters
    ----------
    name : str
        Name of the parameter.
    default : object
        Its default; `REQUIRED` for none.
    type : str
        Types and values allowed, as numpydoc states them, without the default.
    description : str
        Description for the class docstring.
    """

    name: str
    default: Any
    type: str
    description: str

    def replace(self, **changes: Any) -> Parameter:
        """Return the parameter with some fields changed: another default or description.

        Parameters
        ----------
        **changes
            New values of fields.
        """
        return dataclasses.replace(self, **changes)

    def documentation(self) -> str:
        """Return the entry of the "Parameters" section."""
        default = "" if self.default is REQUIRED else f", default={_written(self.default)}"
        text = textwrap.fill(" ".join(self.description.split()), 112, break_long_words=False, break_on_hyphens=False)
        return f"{self.name} : {self.type}{default}\n{textwrap.indent(text, '    ')}"


def with_parameters(*parameters: Parameter | Iterable[Parameter], n_positional: int = 1) -> Callable[[Class], Class]:
    """Give a class an `__init__` that stores these parameters, and their descriptions.

    The first `n_positional` parameters may be given by position, the others by name. Of two parameters of the same name
    the later one replaces the earlier one in its place, which is how an estimator changes a shared default.

    Parameters
    ----------
    *parameters : Parameter or iterable of Parameter
        The parameters in the order of the signature.
    n_positional : int, default=1
        Number of leading parameters that may be given by position.

    Examples
    --------
    >>> from sktransfer._parameters import Parameter, with_parameters
    >>> shared = [Parameter("layer", -1, "int or str", "Layer whose output is used.")]
    >>> @with_parameters(shared, Parameter("copy", True, "bool", "Whether to copy X."))
    ... class Featurizer:
    ...     '''Turn samples into features.
    ...
    ...     Parameters
    ...     ----------
    ...     {parameters}
    ...     '''
    >>> Featurizer(2, copy=False).layer
    2
    >>> print(Featurizer.__doc__.splitlines()[4].strip())
    layer : int or str, default=-1
    """
    by_name: dict[str, Parameter] = {}
    for item in parameters:
        by_name |= {one.name: one for one in ([item] if isinstance(item, Parameter) else item)}

    def decorate(cls: Class) -> Class:
        cls.__init__ = _init(cls, list(by_name.values()), n_positional)  # type: ignore[misc]
        if cls.__doc__:
            listed = "\n".join(one.documentation() for one in by_name.values())
            # Python 3.13 removes the indentation of docstrings.
            cls.__doc__ = re.sub(
                r"^( *)\{parameters\}", lambda found: textwrap.indent(listed, found[1]), cls.__doc__, flags=re.MULTILINE
            )
        return cls

    return decorate


def _init(cls: type, parameters: list[Parameter], n_positional: int) -> Callable[..., None]:
    n_keyword = len(parameters) - n_positional
    kinds = [inspect.Parameter.POSITIONAL_OR_KEYWORD] * n_positional + [inspect.Parameter.KEYWORD_ONLY] * n_keyword
    signature = inspect.Signature(
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD),
            *(inspect.Parameter(one.name, kind, default=one.default) for kind, one in zip(kinds, parameters)),
        ]
    )

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            bound = signature.bind(self, *args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__name__}.__init__() {error}") from None
        bound.apply_defaults()
        for one in parameters:
            setattr(self, one.name, bound.arguments[one.name])

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    __init__.__qualname__ = f"{cls.__qualname__}.__init__"
    __init__.__module__ = cls.__module__
    return __init__


def _written(default: Any) -> str:
    """Return a default as docstrings state it: strings in double quotes."""
    return f'"{default}"' if isinstance(default, str) else repr(default)
