"""Real-time priority where the system gives it, and no harm where it does not."""

import os
import threading

import pytest

from services.realtime import step_forward

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setscheduler"), reason="this system has no scheduling classes")


def in_a_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def test_only_the_calling_thread_steps_forward_and_what_it_starts_is_ordinary():
    def work():
        allowed = step_forward()
        here = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
        return allowed, here, in_a_thread(lambda: os.sched_getscheduler(0))

    allowed, here, child = in_a_thread(work)
    assert here == (os.SCHED_RR if allowed else os.SCHED_OTHER)
    assert child == os.SCHED_OTHER == os.sched_getscheduler(0)


def test_a_system_that_forbids_it_changes_nothing(monkeypatch):
    def forbidden(*_):
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    assert not step_forward()
