from __future__ import annotations

import os
import signal
import threading

import pytest

from sktransfer.training.net import track_sigint


def test_an_interrupt_is_raised_and_noticed():
    with track_sigint() as noticed:
        assert not noticed()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert noticed()


def test_the_exception_of_that_name_is_none():
    with track_sigint() as noticed:
        with pytest.raises(KeyboardInterrupt):
            raise KeyboardInterrupt
        assert not noticed()


def test_the_handler_is_the_one_of_before_even_after_an_error():
    before = signal.getsignal(signal.SIGINT)
    with track_sigint():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
    with pytest.raises(ZeroDivisionError), track_sigint():
        raise ZeroDivisionError
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_of_the_users_own_is_called_and_one_set_meanwhile_stays():
    called = []
    before = signal.signal(signal.SIGINT, lambda *args: called.append(args))
    try:
        with track_sigint() as noticed:
            os.kill(os.getpid(), signal.SIGINT)
            assert noticed()
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert len(called) == 1
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        with track_sigint() as noticed:  # what is ignored stays so
            os.kill(os.getpid(), signal.SIGINT)
            assert not noticed()
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_have_nothing_to_do_with_it():
    found = []

    def work():
        with track_sigint() as noticed:
            found.append(noticed())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
