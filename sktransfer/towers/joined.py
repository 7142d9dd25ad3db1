"""Joined backbones: a list of stages per column, whose features meet in one head."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from sktransfer._validation import check_option
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.preprocess import Preprocess
from sktransfer.backbones.stages import naming_tower, of_tower, watch
from sktransfer.exceptions import InvalidParameterError, did_you_mean
from sktransfer.towers.columns import MISSING, Columns

__all__ = ["JoinedBackbone", "JoinedPreprocess", "join_towers", "refuse_joined"]


class JoinedPreprocess:
    """Preprocessing of each column of a row.

    Parameters
    ----------
    towers : mapping of str to Preprocess
        Preprocessing by column.
    """

    pad_value = 0

    def __init__(self, towers: Mapping[str, Preprocess]) -> None:
        self.towers = dict(towers)

    @property
    def key(self) -> str:
        """JSON of the keys of all columns."""
        return json.dumps({name: one.key for name, one in self.towers.items()})

    def updated(self, changes: Any) -> JoinedPreprocess:
        """Return a preprocessing with other settings of images.

        Parameters
        ----------
        changes : ImageTransform or mapping
            One value for all columns of images, or a dict by column.
        """
        return self._changed("preprocess", "updated", "images", changes)

    def with_max_length(self, max_length: Any) -> JoinedPreprocess:
        """Return a preprocessing with another maximum number of tokens.

        Parameters
        ----------
        max_length : int or mapping of str to int
            One value for all columns of texts, or a dict by column.
        """
        return self._changed("max_length", "with_max_length", "texts", max_length)

    def _changed(self, parameter: str, method: str, kind: str, value: Any) -> JoinedPreprocess:
        able = {name: one for name, one in self.towers.items() if hasattr(one, method)}
        by_name = isinstance(value, Mapping) and bool(value) and not value.keys().isdisjoint(self.towers)
        given = dict(value) if by_name else dict.fromkeys(able, value)
        wrong = [name for name in given if name not in able]
        if wrong or not able:
            raise InvalidParameterError(
                f"{parameter}={value!r}: the columns of {kind} are {list(able)}"
                + (f", and {wrong[0]!r} is none of them" if wrong else "")
                + "; give one value for all of them, or a dict with their names, or leave it out"
            )
        changed = {name: getattr(able[name], method)(one) for name, one in given.items()}
        return JoinedPreprocess({**self.towers, **changed})


class JoinedBackbone(Backbone):
    """A backbone for rows of several columns. `Backbone.join` makes it.

    Each column has a tower, which is a backbone of its own. A stage sees the values of its tower only. The features of
    all towers are concatenated, in the order of the towers, and read by one head, which scales them per tower. The
    outputs of a tower are cached under the keys of its backbone, so that an image that was featurized before costs
    nothing in a joined network.

    X is a DataFrame of pandas or polars, a dict of columns, or an array of objects with one column per tower, in their
    order. The columns of a DataFrame may be in any order. Searches and cross-validation of scikit-learn cannot take
    parts of a dict, so they need a DataFrame or an array.

    The parameters `layer`, `pooling`, `freeze_depth`, `max_length`, `preprocess` and `augment` of an estimator are one
    value for all towers, or a dict by tower, such as `freeze_depth={"text": 2, "image": "all"}`. Towers that share a
    network have one freezing depth.

    Parameters
    ----------
    towers : dict of str to Backbone or str
        Backbone of each column, at least two. Names are loaded.
    missing : {"error", "zero"}, default="error"
        Treatment of a row in which a column is missing (None or NaN). "zero" gives a zero vector in place of its
        features, which is their mean after scaling. Such a row gives no gradient to the tower. A row without any column
        is refused.

    Attributes
    ----------
    towers : dict of str to Backbone
        Backbone of each column.
    networks : list of (tuple of str, Backbone)
        Networks, each with the names of the towers that share it.
    stage_names : tuple of str
        Names such as "text.layer1". Those of a shared network name all its towers, "left+right.block1".

    Raises
    ------
    InvalidParameterError
        If a parameter is not valid.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import Backbone, FineTuneClassifier
    >>> joined = Backbone.join({"text": "tiny/bert", "image": "tiny/cnn"})
    >>> pages = np.array([[[0] * 8] * 8, [[255] * 8] * 8] * 4, dtype=np.uint8)
    >>> X = {"text": ["a dark page", "a white page"] * 4, "image": pages}
    >>> clf = FineTuneClassifier(joined, layer=-1, freeze_depth={"text": "all", "image": -1}, max_epochs=1)
    >>> clf.fit(X, ["dark", "white"] * 4).predict(X)[:2].tolist()
    ['dark', 'white']
    >>> clf.freeze_depth_
    {'text': 5, 'image': 6}
    """

    _ATTRIBUTES = Backbone._ATTRIBUTES | {"_networks", "_towers", "missing"}

    def __init__(self, towers: Mapping[str, Backbone | str], missing: str = "error") -> None:
        self._towers = _check_towers(towers)
        self.missing = check_option("missing", missing, MISSING)
        shared: dict[int, list[str]] = {}
        for name, tower in self._towers.items():
            shared.setdefault(id(tower.stages), []).append(name)
        self._networks = [(tuple(names), self._towers[names[0]]) for names in shared.values()]
        named = [
            (f"{'+'.join(names)}.{stage}", module)
            for names, network in self._networks
            for stage, module in zip(network.stage_names, network.stages, strict=True)
        ]
        self.name = f"join({', '.join(f'{name}={tower.name}' for name, tower in self._towers.items())})"
        self.modality = "joined row"
        self.stage_names = tuple(name for name, _ in named)
        self.stages = nn.ModuleList(module for _, module in named)
        self.preprocess: Any = JoinedPreprocess({name: tower.preprocess for name, tower in self._towers.items()})
        self.pooling = "auto"
        self.head, self.categories, self.shared_space, self._lm_head = None, (), None, None
        self.prefix_tokens: Any = {name: tower.prefix_tokens for name, tower in self._towers.items()}
        self.definition, self.unit_length = "", False
        self.pretrained = all(tower.pretrained for tower in self._towers.values())
        self.origin: tuple[Callable[..., Backbone], tuple[Any, ...]] | None = (join_towers, (self._towers, missing))
        self.copies: dict[str, nn.ModuleList] = {}
        self._hashes: list[bytes] = []
        self._watched, self._version = watch(self.stages)

    @property
    def towers(self) -> Mapping[Any, Backbone]:
        """Backbone of each column by its name."""
        return self._towers

    @property
    def networks(self) -> Sequence[tuple[tuple[Any, ...], Backbone]]:
        """Networks in the order of `stages`, each with the names of the towers that share it."""
        return self._networks

    @property
    def takes(self) -> Columns:
        """Columns of the rows, with their modalities."""
        return Columns({name: tower.modality for name, tower in self._towers.items()}, self.missing)

    def by_tower(self, name: str, value: Any) -> Mapping[Any, Any]:
        """Return the value of a parameter for each tower.

        Parameters
        ----------
        name : str
            Name of the parameter, for messages.
        value : object
            One value for all towers, or a dict with a value for each of them.

        Raises
        ------
        InvalidParameterError
            If a dict has other keys.
        """
        towers = list(self._towers)
        if not isinstance(value, Mapping):
            return dict.fromkeys(towers, value)
        for key in value:
            if key not in self._towers:
                hint = did_you_mean(str(key), towers)
                raise InvalidParameterError(
                    f"{name}={value!r} has the key {key!r}, and the towers of the backbone are {towers}.{hint}"
                )
        lacking = [tower for tower in towers if tower not in value]
        if lacking:
            raise InvalidParameterError(
                f"{name}={value!r} lacks a value for {lacking}; give one for each tower of {towers}, or one value for "
                "all without a dict"
            )
        return {tower: value[tower] for tower in towers}

    def n_frozen(self, freeze_depth: Any, n_stages: Any = None) -> Any:
        """Return the number of frozen stages of each tower.

        Parameters
        ----------
        freeze_depth : int, float, str or dict of str to these
            As `Backbone.n_frozen` takes it, for all towers or by tower.
        n_stages : int or dict of str to int, default=None
            Number of stages that are used, by tower. None for all.

        Raises
        ------
        InvalidParameterError
            If a depth is out of range, or towers that share a network have several.
        """
        depths = self.by_tower("freeze_depth", freeze_depth)
        found = {}
        for name, tower in self._towers.items():
            with naming_tower(name):
                found[name] = int(tower.n_frozen(depths[name], of_tower(n_stages, name)))
        for names, _ in self._networks:
            if len({found[name] for name in names}) > 1:
                raise InvalidParameterError(
                    f"freeze_depth={freeze_depth!r}: the towers {list(names)} share one network, so they have one "
                    f"freezing depth, and not {[found[name] for name in names]}"
                )
        return found

    def with_preprocess(self, preprocess: Any) -> JoinedBackbone:
        """Return a backbone with the same stages and another preprocessing.

        Parameters
        ----------
        preprocess : JoinedPreprocess
            Preprocessing of each column.
        """
        return JoinedBackbone(_with_own_preprocess(self._towers, preprocess.towers), self.missing)

    def with_networks(self, networks: Sequence[Backbone]) -> JoinedBackbone:
        """Return a backbone of changed networks.

        Parameters
        ----------
        networks : sequence of Backbone
            In the order of `networks`.
        """
        changed = {
            name: network for (names, _), network in zip(self._networks, networks, strict=True) for name in names
        }
        towers = {name: changed[name] for name in self._towers}
        return JoinedBackbone(_with_own_preprocess(towers, self.preprocess.towers), self.missing)

    def run(self, values: Tensor, mask: Tensor | None = None, **span: Any) -> Iterator[Tensor]:
        """Raise, because the stages of several towers are no sequence."""
        raise InvalidParameterError(
            f"{self.name} has a list of stages per tower; run one of them, "
            f"backbone.towers[{next(iter(self._towers))!r}].run(values)"
        )

    def fingerprint(self, stop: int | None = None) -> str:
        """Return a hash of the stages of all towers.

        Parameters
        ----------
        stop : int, default=None
            Number of stages per tower. None for all.
        """
        parts = [f"{name} {tower.fingerprint(stop)}" for name, tower in self._towers.items()]
        shared = [" ".join(names) for names, _ in self._networks]
        return hashlib.blake2b("\n".join([*parts, *shared]).encode(), digest_size=20).hexdigest()

    def properties(self) -> dict[str, str]:
        """Return the properties of all towers, and how missing columns are treated."""
        own = {"missing": self.missing}
        for name, tower in self._towers.items():
            own |= {f"{name}.{key}": value for key, value in tower.properties().items()}
        return own

    def forget_if_changed(self) -> bool:
        """Forget what the towers know of weights that torch has changed in place. Return whether it has."""
        changed = [network.forget_if_changed() for _, network in self._networks]  # all of them forget
        return any(changed)

    def __repr__(self) -> str:
        return f"JoinedBackbone({self.name!r}, stages={list(self.stage_names)})"


def join_towers(towers: Mapping[str, Backbone], missing: str) -> Backbone:
    """Return a joined backbone. It is the `origin` of one.

    Parameters
    ----------
    towers : mapping of str to Backbone
        Backbone of each column.
    missing : {"error", "zero"}
        Treatment of a row in which a column is missing.
    """
    return JoinedBackbone(towers, missing)


def refuse_joined(backbone: Backbone, reader: str, instead: str) -> None:
    """Raise if a backbone is joined.

    Parameters
    ----------
    backbone : Backbone
        Backbone that was given.
    reader : str
        Name of what takes none.
    instead : str
        What to do, as an imperative.

    Raises
    ------
    InvalidParameterError
        If the backbone is joined.
    """
    if None not in backbone.towers:
        raise InvalidParameterError(
            f"{backbone.name} reads rows of several columns, and {reader} reads one column; {instead}"
        )


def _with_own_preprocess(towers: Mapping[str, Backbone], preprocess: Mapping[str, Preprocess]) -> dict[str, Backbone]:
    return {
        name: tower if tower.preprocess.key == preprocess[name].key else tower.with_preprocess(preprocess[name])
        for name, tower in towers.items()
    }


def _check_towers(towers: Any) -> dict[str, Backbone]:
    if not isinstance(towers, Mapping) or len(towers) < 2:
        given = f"{list(towers)}" if isinstance(towers, Mapping) else repr(towers)
        raise InvalidParameterError(
            f"towers={given} must be a dict with a backbone for each of two columns or more, such as {{'text': "
            "load_backbone('tiny/bert'), 'image': load_backbone('tiny/cnn')}; one backbone needs no joining"
        )
    loaded = {}
    for name, tower in towers.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise InvalidParameterError(
                f"towers: {name!r} is not an identifier; name the column with letters, digits and underscores, and "
                "rename it in X"
            )
        loaded[name] = load_backbone(tower)
        if isinstance(loaded[name], JoinedBackbone):
            raise InvalidParameterError(
                f"towers[{name!r}] is joined itself; give its towers, {{**backbone.towers, ...}}"
            )
    return loaded
