"""Real-time priority where the system gives it, and no harm where it does not."""

import gc
import os
import threading

import pytest

from robots.realtime import real_time

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="this system has no scheduling classes")


def scheduling():
    return os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK


def in_a_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def test_only_the_calling_thread_is_real_time_and_only_for_a_while():
    def work():
        with real_time() as allowed:
            return allowed, scheduling(), in_a_thread(scheduling)

    allowed, here, child = in_a_thread(work)
    assert here == (os.SCHED_RR if allowed else os.SCHED_OTHER)
    assert child == scheduling() == os.SCHED_OTHER
    with real_time():
        pass
    assert scheduling() == os.SCHED_OTHER


def test_a_system_that_forbids_it_changes_nothing(monkeypatch):
    def forbidden(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    with real_time() as allowed:
        assert not allowed


def test_the_garbage_collector_looks_through_nothing_that_was_there_before():
    there = [[]]
    assert any(each is there for each in gc.get_objects())
    with real_time():
        assert not any(each is there for each in gc.get_objects())
