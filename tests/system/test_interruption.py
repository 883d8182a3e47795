"""Signals are the main thread's, and elsewhere they are left alone."""

import os
import signal
import threading

from autorec_tf.system.interruption import SIGNALS, Interruption, warn
from autorec_tf.system.runtime import quiet_stderr


def handlers():
    return [signal.getsignal(each) for each in SIGNALS]


def test_in_the_main_thread_the_handlers_are_ours_until_the_end():
    before = handlers()
    with Interruption() as interruption:
        assert all(ours != old for ours, old in zip(handlers(), before, strict=True))
        assert not interruption.requested
    assert handlers() == before


def test_in_another_thread_no_handler_is_touched():
    before, seen = handlers(), []

    def enter():
        with Interruption() as interruption:
            seen.append((handlers(), interruption.requested))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [(before, False)] and handlers() == before


def test_a_warning_is_shown_while_standard_error_is_held_back(capfd):
    with quiet_stderr():
        os.write(2, b"library\n")
        warn("during\n")
    warn("after\n")
    assert capfd.readouterr().err == "during\nafter\n"
