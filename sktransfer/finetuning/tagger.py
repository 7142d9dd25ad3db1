"""Fine-tuning as a tagger of words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import torch
from sklearn.callback import with_callbacks
from sklearn.utils.validation import check_is_fitted

from sktransfer._parameters import Parameter, with_parameters
from sktransfer._utils import all_or_nothing
from sktransfer._validation import check_option
from sktransfer.cache.resolve import resolve_store
from sktransfer.engine import parameters as engine
from sktransfer.engine.compute import check_finite_outputs, resolve_compute
from sktransfer.engine.forward import forward
from sktransfer.engine.inference import prepare_head
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError, TargetWarning, ValidationWarning, name_row, warn
from sktransfer.finetuning import parameters as shared
from sktransfer.finetuning.arguments import FitArguments, check_groups, check_known_classes
from sktransfer.finetuning.single import TASK, SingleTaskTuner
from sktransfer.samples.columns import quoted
from sktransfer.samples.labels import row_labels
from sktransfer.sentences.checks import Sentences, check_sentences, check_word_values
from sktransfer.sentences.values import SUBWORDS, collect_words
from sktransfer.sentences.windows import TokenIds, Windows, read_sentences
from sktransfer.tagging.metrics import tag_accuracy_score
from sktransfer.tagging.schemes import SCHEMES, guess_scheme, invalid_tags
from sktransfer.tagging.sequences import check_tags
from sktransfer.tasks.base import Task
from sktransfer.tasks.criterion import Criterion
from sktransfer.tasks.given import GivenTargets
from sktransfer.tasks.tags import GivenTags, Tags, check_tag_types
from sktransfer.tasks.validation import check_weight

if TYPE_CHECKING:
    from sklearn.utils import Tags as EstimatorTags

    from sktransfer.backbones.backbone import Backbone
    from sktransfer.samples.base import Samples

__all__ = ["FineTuneTagger"]

_DECODERS = ("auto", "argmax", *(name.lower() for name in SCHEMES if name != "IO"))  # IO allows any sequence


@with_parameters(
    engine.BACKBONE.replace(
        default="tiny/bert",
        description="""A name or a loaded backbone of texts, such as `tagger.backbone_` of a fitted tagger. "tiny/bert"
        is shipped, and `"hf/<hub id or local folder>"` loads models of transformers.""",
    ),
    engine.WEIGHTS,
    engine.MAX_LENGTH.replace(
        description="""Number of tokens that the network reads at once, including special ones. None is as many as the
        model accepts. Longer sentences are read in overlapping windows, and no word is lost."""
    ),
    [one for one in shared.INPUT if one.name == "layer"],
    engine.SUBWORD.replace(
        description="""Values of a word of several tokens: those of its first token, of its last, or the mean over all
        of them. "mean" averages the outputs of the linear head, which is the head's output for the mean."""
    ),
    Parameter(
        "decode",
        "auto",
        '{"auto", "argmax", "iob1", "iob2", "bioes", "bilou"}',
        """How `predict` chooses tags. "argmax" takes the most probable tag of each word. The name of a scheme takes the
        most probable sequence of those that the scheme allows (Viterbi), such as no I-PER after O in IOB2. "auto" is
        the scheme that the tags of y follow, and "argmax" if they follow none (`decode_`).""",
    ),
    [one for one in shared.INPUT if one.name == "freeze_depth"],
    shared.HEAD,
    shared.HEAD[1].replace(
        description="""Initialization of a new head: "probe" fits a linear model to the pretrained features of up to
        10,000 words [1]_, "class_means" predicts the nearest mean of a tag, "random" draws the weights."""
    ),
    shared.TRAINING,
    shared.TRAINING[1].replace(description="Windows per step. A sentence that fits into the network is one window."),
    shared.HEAD_LR,
    shared.SCHEDULE,
    shared.UNFREEZING,
    shared.RECIPE,
    shared.CRITERION[0].replace(
        description="""Loss of the outputs of words (n_words, n_classes) and their tags as indices (n_words,). It gives
        one loss per word, such as `torch.nn.MultiMarginLoss`. A class is made with `reduction="none"`. None for the
        cross entropy. `save` needs `set_params(criterion=None)`."""
    ),
    shared.CLASSIFICATION,
    shared.CLASSIFICATION[1].replace(
        type='dict or "balanced"',
        description="""Weight of the words of each tag, as in scikit-learn. Only ratios of weights matter. Words of a
        tag with zero weight are dropped.""",
    ),
    [one for one in shared.CHANGES if one.name == "adapter"],
    shared.VALIDATION,
    shared.VALIDATION[1].replace(description="Share of the sentences in the validation split."),
    shared.END,
    shared.CALLBACKS_WITHOUT_SCORES,
)
class FineTuneTagger(SingleTaskTuner):
    """Predict a tag for each word of a sentence with a pretrained network whose upper stages are fine-tuned.

    X holds lists of words, and y lists of tags. There are as many predictions as words, also of long sentences, which
    are read in overlapping windows. Each word is read in the window in which it is farthest from a border.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Tags, sorted.
    decode_ : str
        "argmax", or the scheme that predictions keep to.
    backbone_ : Backbone
        Fine-tuned backbone, for a featurizer or for the next estimator: `TokenFeaturizer(backbone=tagger.backbone_)`.
    head_ : Head
        Fitted head, to continue from. `tagger.head_(features)` returns the logits of words.
    net_ : skorch.NeuralNet
        Trained net, with its `history`. `net_.module_.heads["y"]` is the head as a module of torch.
    freeze_depth_ : int
        Number of frozen stages.
    history_ : DataFrame
        One row per epoch: losses, share of right words of validation data (`valid_acc`), highest learning rate at its
        end, seconds, and what callbacks record. A loss is the mean over the words.
    layer_ : Series
        Only if `layer="auto"`: weight of each layer, by stage, summing to one.
    strength_ : float
        C of the probe, a logistic regression, on features of total variance 1, as found by leave-one-out errors. Only
        if the head started as a probe, or `layer="auto"`.
    report_ : str
        The choice and the errors that decided it, in a few lines.
    layer_weights_ : Series
        Weight of each stage if `layer="mix"`, summing to one.
    lr_ : float
        Learning rate that `lr` stood for.
    lr_curve_ : DataFrame
        Only if `lr="find"`: gain at each rate, one row per step. `LearningRateDisplay.from_finder(tagger)` draws it.
    n_iter_ : int
        Number of epochs.
    stages_ : DataFrame
        One row per stage: whether it was trained, its rate, and its number of trained parameters.
    n_features_in_ : int
        Number of columns of X, if it has columns.

    See Also
    --------
    TokenFeaturizer : Features of words from a frozen backbone, for any classifier.
    TagsDisplay : Predicted tags on the text.
    span_f1_score : Score of the spans that tags write.

    Notes
    -----
    It is no classifier in the sense of scikit-learn, because y has lists of different lengths. Searches therefore use
    folds that are not stratified. `make_scorer(span_f1_score)` scores spans.

    With `layer="auto"`, layers are chosen by about 1,000 words of the training, as `TokenFeaturizer` does it [5]_. The
    last layer always counts, so that `freeze_depth` counts all stages.

    The layers that the cache keeps have a vector per token. For 1,000 sentences of 25 tokens and 384 features these
    are 38 MB per layer in float32.

    References
    ----------
    .. [1] A. Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution",
       ICLR 2022.
    .. [2] M. Peters et al., "Deep Contextualized Word Representations", NAACL 2018.
    .. [3] J. Howard, S. Ruder, "Universal Language Model Fine-tuning for Text Classification", ACL 2018.
    .. [4] X. Li et al., "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", ICML 2018.
    .. [5] R. Rifkin and R. Lippert, "Notes on Regularized Least Squares", MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> from sktransfer import FineTuneTagger
    >>> X = [["Anna", "visits", "Paris"], ["Rome", "calls", "Peter"], ["Peter", "likes", "New", "York"]]
    >>> y = [["B-PER", "O", "B-LOC"], ["B-LOC", "O", "B-PER"], ["B-PER", "O", "B-LOC", "I-LOC"]]
    >>> tagger = FineTuneTagger("tiny/bert", max_epochs=1, random_state=0).fit(X, y)
    >>> tagger.decode_, tagger.predict([["Peter", "visits", "New", "York"], []])
    ('iob2', [['B-PER', 'O', 'B-LOC', 'I-LOC'], []])
    """

    _target = "it holds a list of tags per sentence, one per word"

    # Parameters of other tuners that words have no use for.
    augment = None
    image_shape = None
    pooling = "auto"
    preprocess = "auto"

    class_weight: Any
    classes_: np.ndarray
    criterion: Any
    decode: str
    decode_: str
    label_smoothing: float
    subword: str

    # As in scikit-learn's splitters: groups that a search gets for its folds need no request.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        groups: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> Self:
        """Train the stages above the freezing boundary, and the head.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or object array of n_samples lists of str
            Words of each sentence.
        y : list, Series or object array of n_samples lists
            A tag per word, str or int. None and NaN are tags that are not known.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sentence, which each of its words has. Only ratios of weights matter. Sentences with zero
            weight are dropped.
        groups : array-like of shape (n_samples,), default=None
            Group of each sentence, such as its document. The validation split of `early_stopping` does not separate
            groups. With metadata routing, `groups` of a search are also passed here, unless
            `set_fit_request(groups=False)` is called.
        X_val : list, Series, one-column DataFrame or object array of n_val lists of str, default=None
            Validation sentences. `history_` has their loss and score, and `early_stopping` uses them instead of a split
            of X.
        y_val : list, Series or object array of n_val lists, default=None
            Tags of the validation sentences.
        sample_weight_val : array-like of shape (n_val,), default=None
            Weight of each validation sentence.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sentence cannot be used.
        NotFiniteError
            If the training diverges: a loss or a weight is infinite or NaN.
        ValueError
            If y does not fit X, or holds only one tag.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        TargetWarning
            If tags break the scheme that predictions keep to, or X and y seem to be swapped.
        """
        self._check_parameters()
        validation = {"X_val": X_val, "y_val": y_val, "sample_weight_val": sample_weight_val}
        return self._fit(FitArguments(X, y, sample_weight, groups, **validation))

    @all_or_nothing
    @with_callbacks  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> Self:
        """Train on more sentences, in one epoch at a constant rate. The first call initializes as `fit` does.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or object array of n_samples lists of str
            Words of each sentence.
        y : list, Series or object array of n_samples lists
            A tag per word, not necessarily all of them.
        classes : array-like of shape (n_classes,), default=None
            All tags. Required in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sentence. Only ratios within a call matter. Sentences with zero weight are dropped.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sentence cannot be used.
        NotFiniteError
            If the training diverges: a loss or a weight is infinite or NaN.
        ValueError
            If the first call has no classes, or a later one has others.

        Warns
        -----
        ConvergenceWarning
            If the training loss is far higher at the end than at the start.
        """
        self._check_parameters()
        known = check_known_classes(classes, self.classes_ if hasattr(self, "net_") else None, "tags")
        return self._partial_fit(FitArguments(X, y, sample_weight, classes={TASK: known}))

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """Return the probability of each tag for each word, in the order of `classes_`.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or object array of n_samples lists of str
            Words of each sentence.

        Returns
        -------
        probabilities : list of n_samples ndarray of shape (n_words, n_classes)
            Rows sum to one. They do not depend on `decode`.

        Raises
        ------
        InvalidSampleError
            If a sentence cannot be used.
        NotFiniteError
            If an output of the network is infinite or NaN.
        """
        return [self._tags.decode_proba(outputs) for outputs in self._outputs_of_words(X)]

    def predict(self, X: Any) -> list[list[Any]]:
        """Return a tag for each word.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or object array of n_samples lists of str
            Words of each sentence.

        Returns
        -------
        tags : list of n_samples lists
            As many tags as the sentence has words.

        Raises
        ------
        InvalidSampleError
            If a sentence cannot be used.
        NotFiniteError
            If an output of the network is infinite or NaN.
        """
        return self._tags.decode_sequences(self._outputs_of_words(X))

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the share of words whose tag is predicted right.

        Parameters
        ----------
        X : list, Series, one-column DataFrame or object array of n_samples lists of str
            Words of each sentence.
        y : list, Series or object array of n_samples lists
            True tags. Words whose tag is not known, None, are left out.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each sentence, which each of its words has.

        Returns
        -------
        accuracy : float

        Raises
        ------
        InvalidSampleError
            If a sentence cannot be used.
        ValueError
            If y does not fit X.

        Warns
        -----
        ValidationWarning
            If y has tags that the training did not have, which are never predicted.
        """
        check_is_fitted(self)
        sentences = check_sentences(X, self, reset=False)
        tags = check_word_values(check_tags(y), sentences.n_words, _labels(X, y))
        known = set(self.classes_.tolist())
        new = [tag for one in tags for tag in one if tag is not None and tag not in known]
        if new:
            different = ", ".join(sorted(map(repr, set(new))))
            warn(
                f"y holds tags that the training did not have, {different}: {len(new)} of its words cannot be right. "
                f"The tags of the training are {quoted(self.classes_.tolist())}",
                ValidationWarning,
            )
        return tag_accuracy_score(tags, self.predict(X), sample_weight=sample_weight)

    @property
    def _tags(self) -> Tags:
        check_is_fitted(self)
        assert isinstance(self._task, Tags)
        return self._task

    @torch.no_grad()
    def _outputs_of_words(self, X: Any) -> list[np.ndarray]:
        """Return the logits of words, (n_words, n_classes) per sentence, float32."""
        check_is_fitted(self)
        inputs = read_sentences(check_sentences(X, self, reset=False), self.backbone_)
        windows: Windows = inputs.samples
        head = prepare_head(self._feature_head)
        compute = resolve_compute(self.device, self.precision)
        outputs = np.empty((len(windows.window), self._feature_head.n_outputs), np.float32)  # (n_words, n_classes)
        # Only outputs of frozen stages are cached, because no other estimator has the trained ones.
        parts = forward(
            self.backbone_,
            inputs,
            self._layers["tokens"],
            compute=compute,
            store=resolve_store(self.cache),
            cacheable_stages=self.freeze_depth_,
            prefetch=[LayerOutput(self.freeze_depth_)],
        )
        for words, vectors in collect_words(parts, windows, self._tags.subword):
            outputs[words] = head(torch.cat(vectors, 1)).numpy()  # (n, n_classes)
        inputs.warn_of_unread()
        return windows.split(check_finite_outputs(outputs, compute))

    def _check_parameters(self) -> None:
        check_option("subword", self.subword, SUBWORDS)
        check_option("decode", self.decode, _DECODERS)

    def _read_rows(self, arguments: FitArguments, backbone: Backbone, *, reset: bool) -> tuple[Samples, FitArguments]:
        """Return the windows of sentences, and tags, weights and groups of the windows."""
        if backbone.modality != "text":
            raise InvalidParameterError(
                f"backbone={self.backbone!r} reads {backbone.modality}s, and a tagger reads words; give a backbone of "
                "texts, such as 'tiny/bert'"
            )
        sentences = check_sentences(arguments.X, self, reset=reset)
        labels = _labels(arguments.X, arguments.y)
        tags = check_word_values(check_tags(arguments.y), sentences.n_words, labels)
        check_tag_types(tags, labels)
        if reset:
            _warn_if_swapped(sentences, tags)
        windows: Windows = read_sentences(sentences, backbone).samples
        values = np.empty(len(tags), dtype=object)  # (n_sentences,)
        for row, of_sentence in enumerate(tags):
            values[row] = of_sentence
        weight = check_weight(arguments.sample_weight, len(tags))  # (n_sentences,)
        groups = check_groups(arguments.groups, len(tags))
        of_windows = dataclasses.replace(
            arguments,
            y=GivenTags(values, windows),
            sample_weight=weight[windows.sentence],  # (n_windows,)
            groups=windows.sentence if groups is None else groups[windows.sentence],  # (n_windows,)
        )
        if not len(windows):
            raise ValueError(f"X has {len(tags)} sentences and none of them has words, so there is nothing to learn")
        return windows, of_windows

    def _preprocessing(self, backbone: Backbone) -> Any:
        return TokenIds(backbone.preprocess)

    def _read_targets(
        self, y: Any, *, first: bool, classes: Mapping[str, np.ndarray] | None = None
    ) -> Mapping[str, GivenTargets]:
        return {TASK: y}

    def _make_task(self, y: Any, classes: np.ndarray | None) -> Task:
        criterion = None if self.criterion is None else Criterion(self.criterion)
        scheme = self._find_scheme(list(y))
        task = Tags(self.subword, scheme, self.class_weight, self.label_smoothing, criterion)
        task.classes = classes
        return task

    def _find_scheme(self, rows: Sequence[Sequence[Any]]) -> str | None:
        """Return the scheme that predictions keep to, or None, and warn of tags that break it."""
        found = guess_scheme(rows)
        if self.decode == "argmax" or (self.decode == "auto" and found in (None, "IO")):
            return None
        scheme = found if self.decode == "auto" else self.decode.upper()
        tags = {tag for row in rows for tag in row if tag is not None}
        assert scheme is not None
        known = SCHEMES[scheme]
        if not any(isinstance(tag, str) and tag != "O" and known.parse(tag) for tag in tags):
            raise InvalidParameterError(
                f"decode={self.decode!r} keeps to {known.describe()}, and y has none of these tags but "
                f"{quoted(sorted(map(str, tags)))}; set decode='argmax', or write the tags in the scheme by "
                "convert_scheme"
            )
        faults = list(invalid_tags(rows, known))
        if faults:
            row, position, reason = faults[0]
            break_it = "1 tag of y breaks" if len(faults) == 1 else f"{len(faults)} tags of y break"
            warn(
                f"{break_it} {scheme}, and predictions keep to it (decode={self.decode!r}); the first is "
                f"{name_row(row, None, 'y')}, position {position}: {rows[row][position]!r} {reason}. "
                f"find_invalid_tags(y, {scheme!r}) lists them, and convert_scheme(y, {scheme!r}, {scheme!r}, "
                "invalid='repair') repairs them",
                TargetWarning,
            )
        return scheme

    def _encode(self, *arguments: Any) -> Any:
        encoded = super()._encode(*arguments)
        tags = self._task
        assert isinstance(tags, Tags)
        assert tags.classes is not None
        self.classes_, self.decode_ = tags.classes, "argmax" if tags.scheme is None else tags.scheme.lower()
        return encoded

    def __sklearn_tags__(self) -> EstimatorTags:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array = tags.input_tags.two_d_array = tags.input_tags.three_d_array = False
        return tags


def _warn_if_swapped(sentences: Sentences, tags: list[list[Any]]) -> None:
    words = {word for row in range(len(sentences)) for word in sentences.load(row)}
    different = {tag for of_sentence in tags for tag in of_sentence if tag is not None}
    if len(different) > len(words):
        warn(
            f"y has {len(different)} different tags, and X only {len(words)} different words. X holds words, and "
            "y holds tags: are they swapped?",
            TargetWarning,
        )


def _labels(X: Any, y: Any) -> Any:
    """Return the index labels of the sentences, of y if it has some, else of X."""
    found = row_labels(y)
    return row_labels(X) if found is None else found
