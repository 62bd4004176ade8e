"""The supervisor against processes that die as told, on a clock of the test's own."""

from __future__ import annotations

import threading

import pytest

from services.cluster.supervisor import FIRST_PAUSE, HEALTHY, LONGEST_PAUSE, SILENT, STARTING, Ended, Supervisor


class FakeProcess:
    """Ends when the test says so, or when asked to unless it is `deaf`."""

    def __init__(self, pid: int, events: list[str], name: str, deaf: bool = False) -> None:
        self.pid, self._events, self._name, self._deaf = pid, events, name, deaf
        self.ended: Ended | None = None
        self.quiet: float | None = 0.0

    def wait(self, timeout: float) -> Ended | None:
        return self.ended

    def silence(self) -> float | None:
        return self.quiet

    def stop(self) -> None:
        self._events.append(f"stop {self._name}")
        if not self._deaf:
            self.ended = self.ended or Ended("stopped")

    def kill(self) -> None:
        self._events.append(f"kill {self._name}")


class World:
    """A supervisor over fakes; `processes[name]` are the starts of that service, the newest last."""

    def __init__(self, *names: str, deaf: tuple[str, ...] = ()) -> None:
        self.processes: dict[str, list[FakeProcess]] = {name: [] for name in names}
        self.events: list[str] = []
        self.restarted: list[str] = []
        self._deaf = deaf
        launches = {name: lambda starts, name=name: self._launch(name, starts) for name in names}
        self.supervisor = Supervisor(launches, [([name], 0.01) for name in names], self.restarted.append)
        self.now = 1000.0
        self.supervisor.tick(self.now)

    def _launch(self, name: str, starts: int) -> FakeProcess:
        assert starts == len(self.processes[name])
        self.processes[name].append(FakeProcess(100 + starts, self.events, name, name in self._deaf))
        return self.processes[name][-1]

    def end(self, name: str, how: str, text: str = "") -> None:
        self.processes[name][-1].ended = Ended(how, text)
        self.supervisor.tick(self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.supervisor.tick(self.now)

    def pause_after_crash(self, name: str) -> float:
        """Seconds until the service is there again, to 50 ms."""
        self.end(name, "crashed")
        begun, starts = self.now, len(self.processes[name])
        while len(self.processes[name]) == starts:
            self.pass_time(0.05)
        return self.now - begun


def test_a_service_that_crashed_is_started_again_and_counted():
    world = World("replay", "learner")
    world.end("replay", "crashed", "killed")
    assert world.supervisor.states() == {"replay": "restarting", "learner": "running"}
    world.pass_time(FIRST_PAUSE)
    assert world.supervisor.states() == {"replay": "running", "learner": "running"}
    assert world.supervisor.restarts == {"replay": 1, "learner": 0}
    assert world.restarted == ["replay"]
    assert world.supervisor.pids() == {"replay": 101, "learner": 100}
    assert world.supervisor.failure is None


def test_nothing_of_the_dead_is_left_before_the_next_start():
    world = World("replay")
    world.end("replay", "crashed")
    assert world.events == ["kill replay"] and len(world.processes["replay"]) == 1


def test_pauses_double_up_to_a_limit_and_are_short_again_after_a_healthy_time():
    world = World("policy")
    pauses = [world.pause_after_crash("policy") for _ in range(8)]
    assert pauses[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6], abs=0.06)
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE, abs=0.06)
    world.pass_time(HEALTHY + 1)
    assert world.pause_after_crash("policy") == pytest.approx(FIRST_PAUSE, abs=0.06)


def test_a_refusal_at_the_first_start_ends_the_run_with_the_service_s_own_words():
    world = World("replay", "learner")
    world.end("replay", "refused", "tcp://127.0.0.1:5551: another process holds it; set network.port")
    world.pass_time(60)
    assert len(world.processes["replay"]) == 1
    assert str(world.supervisor.failure) == "replay: tcp://127.0.0.1:5551: another process holds it; set network.port"
    assert world.supervisor.states() == {"replay": "refused", "learner": "running"}


def test_a_service_that_ran_before_is_not_given_up_for_a_refusal():
    world = World("learner", "replay")
    world.end("replay", "crashed")
    world.pass_time(FIRST_PAUSE)
    world.end("replay", "refused", "the port is still held")
    world.pass_time(HEALTHY + 1)
    world.end("learner", "refused", "the disk is full")
    assert world.supervisor.failure is None
    assert world.supervisor.states() == {"learner": "restarting", "replay": "running"}


def test_a_service_that_is_done_is_left_alone():
    world = World("a1-0")
    world.end("a1-0", "stopped")
    world.pass_time(60)
    assert len(world.processes["a1-0"]) == 1 and world.supervisor.states() == {"a1-0": "stopped"}


def test_a_silent_process_is_replaced():
    world = World("learner", "policy")
    world.processes["learner"][0].quiet = SILENT + 0.1
    world.pass_time(1)
    assert world.supervisor.states() == {"learner": "restarting", "policy": "running"}
    assert world.events == ["kill learner"]


def test_a_process_has_longer_to_give_its_first_sign_of_life():
    world = World("learner")
    world.processes["learner"][0].quiet = None
    world.pass_time(STARTING - 1)
    assert world.supervisor.states() == {"learner": "running"}
    world.pass_time(2)
    assert world.supervisor.states() == {"learner": "restarting"}


def test_services_end_in_order_and_one_that_does_not_is_killed_and_named():
    world = World("a1-0", "learner", "replay", deaf=("learner",))
    assert world.supervisor.stop() == ["learner"]
    assert world.events == ["stop a1-0", "kill a1-0", "stop learner", "kill learner", "stop replay", "kill replay"]
    assert set(world.supervisor.states().values()) == {"stopped"}


def test_stopping_leaves_alone_what_is_between_two_starts():
    world = World("learner", "replay")
    world.end("learner", "crashed")
    world.events.clear()
    assert world.supervisor.stop() == []
    assert world.events == ["stop replay", "kill replay"]


def test_when_nothing_can_be_started_any_more_the_run_ends_with_the_reason():
    calls = threading.Event()

    def launch(starts: int) -> FakeProcess:
        if starts == 0:
            process = FakeProcess(1, [], "replay")
            process.ended = Ended("crashed")
            return process
        calls.set()
        raise ConnectionError("Ray is gone")

    supervisor = Supervisor({"replay": launch}, [(["replay"], 0.01)], lambda name: None)
    supervisor.start()
    assert calls.wait(5)
    supervisor.stop()
    assert "Ray is gone" in str(supervisor.failure)
