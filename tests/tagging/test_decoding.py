"""Viterbi decoding against a search over all sequences."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sktransfer import find_invalid_tags
from sktransfer.tagging.decoding import Transitions, best_sequences, scheme_transitions

CLASSES = {
    "IOB2": ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"],
    "IOB1": ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"],
    "BIOES": ["B-PER", "E-PER", "I-PER", "O", "S-PER"],
}


def random_scores(lengths, n_classes, seed=0):
    rng = np.random.default_rng(seed)
    return [np.log(rng.dirichlet(np.full(n_classes, 0.4), size=n)) for n in lengths]


def allowed(sequence, transitions):
    inside = all(transitions.between[one, other] for one, other in itertools.pairwise(sequence))
    return inside and transitions.start[sequence[0]] and transitions.end[sequence[-1]]


@pytest.mark.parametrize("scheme", CLASSES)
def test_best_sequences_equal_a_search_over_all(scheme):
    transitions = scheme_transitions(CLASSES[scheme], scheme)
    scores = random_scores([4, 1, 3, 5, 2, 4], 5)
    for one, found in zip(scores, best_sequences(scores, transitions), strict=True):
        sequences = [s for s in itertools.product(range(5), repeat=len(one)) if allowed(s, transitions)]
        totals = [one[np.arange(len(one)), list(sequence)].sum() for sequence in sequences]
        assert tuple(found) == sequences[int(np.argmax(totals))]


@pytest.mark.parametrize("scheme", CLASSES)
def test_best_sequences_follow_the_scheme(scheme):
    scores = random_scores([0, 30, 7, 0, 200], 5)
    names = np.array(CLASSES[scheme])
    decoded = [names[row] for row in best_sequences(scores, scheme_transitions(names, scheme))]
    assert [len(row) for row in decoded] == [0, 30, 7, 0, 200]
    assert find_invalid_tags(decoded, scheme).empty
    plain = [names[one.argmax(1)] for one in scores]
    assert not find_invalid_tags(plain, scheme).empty


def test_best_sequences_do_not_depend_on_the_other_sentences(monkeypatch):
    transitions = scheme_transitions(CLASSES["IOB2"], "IOB2")
    scores = random_scores([9, 2, 30, 9], 5)
    together = best_sequences(scores, transitions)
    monkeypatch.setattr("sktransfer.tagging.decoding._MAX_VALUES", 50)  # two sentences per step
    for one, other, alone in zip(together, best_sequences(scores, transitions), scores, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_array_equal(one, best_sequences([alone], transitions)[0])


def test_best_sequences_without_restriction_are_the_most_likely_classes():
    free = Transitions(np.ones(5, bool), np.ones((5, 5), bool), np.ones(5, bool))
    scores = random_scores([6, 3], 5)
    for one, found in zip(scores, best_sequences(scores, free), strict=True):
        np.testing.assert_array_equal(found, one.argmax(1))


def test_best_sequences_take_probabilities_of_zero():
    with np.errstate(divide="ignore"):
        scores = np.log(np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))  # I-PER alone, which IOB2 forbids
    found = best_sequences([scores], scheme_transitions(["B-PER", "I-PER", "O"], "IOB2"))[0]
    assert found.tolist() == [0, 1]


def test_best_sequences_if_no_sequence_is_allowed():
    transitions = scheme_transitions(["B-PER", "E-PER"], "BIOES")
    one, two = best_sequences(random_scores([1, 2], 2), transitions)
    assert one.tolist() == [random_scores([1, 2], 2)[0].argmax()]
    assert two.tolist() == [0, 1]


def test_scheme_transitions_of_classes_unknown_to_the_scheme():
    transitions = scheme_transitions(["B-PER", "I-PER", "X", 3], "IOB2")
    assert transitions.between.tolist() == [[True, True, True, True]] * 2 + [[True, False, True, True]] * 2
    assert transitions.start.tolist() == [True, False, True, True]
    assert transitions.end.all()
