"""The learner between a real replay and a real policy server: it learns, publishes, and goes on after a restart."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
import zmq
from learning_bench import (
    PATIENCE,
    Switchboard,
    ask,
    chunk,
    client,
    run_folder,
    running,
    schema,
    toy_config,
    wait_until,
)
from safetensors.torch import load
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from daydreamer import checkpoints
from daydreamer.blueprint import Blueprint
from daydreamer.checkpoints import CheckpointMismatch
from daydreamer.diagnostics import findings
from daydreamer.replay.chunk import Chunk
from services.embodiment import model_spaces
from services.learner import feed
from services.learner.service import PATIENCE as SKIPS
from services.learner.service import Diverged, LearnerService
from services.learner.weights import Fetcher, Weights
from services.policy.service import PolicyService
from services.replay.service import ReplayService
from services.wire import sockets
from services.wire.messages import LIMITS, ActReply, ActRequest, ChunkSent, OpenStream

CONFIG = toy_config()
SCHEMA = schema(CONFIG)


def collect(board: Switchboard, chunks: int, stream: bytes = b"s" * 16, spoil: float = 0.0) -> None:
    """What a robot would have sent; `spoil` is added to every reward."""
    with client(board.address("experience"), "experience") as robot:
        ask(robot, OpenStream("toy-0", stream, SCHEMA.to_json()))
        for sequence in range(chunks):
            made: Chunk = chunk(SCHEMA, stream, sequence)
            made.columns["reward"] += np.float32(spoil)
            robot.send(ChunkSent(stream, sequence, made.first_step, made.columns))
        while robot.receive(PATIENCE).durable < chunks:
            pass


@contextmanager
def replay(path: Path, **changes):
    with Switchboard() as board, running(ReplayService(toy_config(**changes), run_folder(path), control=board.control)):
        yield board


@contextmanager
def learner(board: Switchboard, path: Path, **changes):
    board.addresses.pop("weights", None)
    board.states.pop("learner", None)
    service = LearnerService(toy_config(**changes), run_folder(path), control=board.control)
    with running(service) as crew:
        wait_until(lambda: "weights" in board.addresses or crew.ended, "the learner began")
        yield crew


def caught_up(board: Switchboard) -> None:
    """Return when everything was trained that the train ratio allows."""
    wait_until(lambda: board.states.get("learner") == "waiting ratio", "all that may be replayed was")


def fetch(board: Switchboard, newer_than: int = -1) -> Weights:
    """The newest weights of the running learner, once there are any."""
    fetcher, got = Fetcher(0.05, 1 << 24), []
    fetcher.have = newer_than
    with client(board.address("weights"), "weights") as link:
        def look() -> bool:
            if request := fetcher.due(time.monotonic()):
                link.send(request)
            if message := link.receive(0.1):
                got.append(fetcher.receive(message, time.monotonic()))
            return bool(got and got[-1])
        wait_until(look, "there were weights")
    return got[-1]


def saved(path: Path) -> checkpoints.Checkpoint:
    return checkpoints.load_newest(path / "checkpoints", Blueprint(*model_spaces(CONFIG), CONFIG.agent))


def test_experience_becomes_weights_and_weights_become_actions(tmp_path):
    with ExitStack() as stack:
        board = stack.enter_context(replay(tmp_path))
        stack.enter_context(learner(board, tmp_path))
        stack.enter_context(running(PolicyService(CONFIG, control=board.control)))
        collect(board, 6)
        robot = stack.enter_context(client(board.address("policy"), "policy"))
        arrays = {"imu": np.zeros((1, 2), np.float32), "joints": np.zeros((1, 3), np.float32),
                  "prev_action": np.zeros((1, 2), np.float32), "is_first": np.array([True])}
        replies = []
        wait_until(lambda: replies.append(ask(robot, ActRequest("toy-0", bytes(16), 0, True, arrays)))
                   or isinstance(replies[-1], ActReply), "the policy acted")
        assert replies[-1].weights_version >= 0


def test_the_train_ratio_is_kept_and_written_down(tmp_path):
    with replay(tmp_path) as board:
        collect(board, 6)
        with learner(board, tmp_path):
            caught_up(board)
    replayed = saved(tmp_path).counters["replayed"]
    assert 96 * 8 - 32 < replayed <= 96 * 8 + 2 * 32, "8 per collected step of 96, at most two batches of 32 ahead"
    line = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["updates"] == replayed / 32 and {"loss", "train_ratio", "updates_per_second"} <= set(line)
    assert (line["steps"], line["replayed"]) == (96, replayed)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"learner/steps", "learner/train_ratio", "agent/loss"} <= set(board.Tags()["scalars"])
    newest = board.Scalars("agent/loss")[-1]
    assert newest.step == line["updates"] and newest.value == pytest.approx(line["loss"])


def test_a_restart_goes_on_with_counters_and_weights_and_never_reuses_a_version(tmp_path):
    with replay(tmp_path) as board:
        collect(board, 6)
        with learner(board, tmp_path):
            first = fetch(board)
            caught_up(board)
        before = saved(tmp_path)
        assert before.counters["updates"] >= first.updates > 0
        with learner(board, tmp_path):
            again = fetch(board)
            assert again.updates == before.counters["updates"], "there was nothing more to replay"
            assert again.version > first.version
            assert all(torch.equal(t, before.tensors[name].float()) for name, t in load(again.data).items())
            collect(board, 4, stream=b"t" * 16)
            assert fetch(board, newer_than=again.version).updates > again.updates
    assert saved(tmp_path).counters["replayed"] > before.counters["replayed"]


def test_a_checkpoint_of_another_size_stops_the_learner_and_names_the_setting(tmp_path):
    with replay(tmp_path) as board:
        with learner(board, tmp_path):
            pass
        with pytest.raises(CheckpointMismatch, match="agent.size: saved 'debug', now 'small'"):
            LearnerService(toy_config(agent={"size": "small"}), run_folder(tmp_path)).run(threading.Event())


def test_settings_that_may_change_do_not_stop_it(tmp_path):
    with replay(tmp_path) as board:
        with learner(board, tmp_path):
            pass
        with learner(board, tmp_path, agent={"learning_rate": 3e-4}):
            pass
    assert len(list((tmp_path / "checkpoints").glob("0*"))) == 2


def test_losses_that_stay_infinite_end_the_learner_when_there_is_nothing_to_go_back_to(tmp_path):
    with replay(tmp_path) as board:
        collect(board, 6, spoil=float("nan"))
        with pytest.raises(Diverged, match=f"{SKIPS} updates in a row"), learner(board, tmp_path) as crew:
            wait_until(lambda: crew.ended, "it gave up")


def test_losses_that_stay_infinite_go_back_to_the_checkpoint_and_wait_for_better_data(tmp_path):
    with replay(tmp_path) as board:
        collect(board, 6)
        with learner(board, tmp_path):
            caught_up(board)
        before = saved(tmp_path)
        collect(board, 60, stream=b"t" * 16, spoil=float("nan"))
        with learner(board, tmp_path) as crew:
            caught_up(board)
            assert not crew.ended
    after = saved(tmp_path)
    assert after.counters["replayed"] > before.counters["replayed"]
    assert all(torch.isfinite(t).all() for t in after.tensors.values() if t.is_floating_point())


def test_a_lower_train_ratio_holds_from_now_on_and_not_for_the_past(tmp_path):
    with replay(tmp_path) as board, learner(board, tmp_path):
        collect(board, 6)
        caught_up(board)
    before = saved(tmp_path).counters["updates"]
    lower = {"train_ratio": 2.0}
    with replay(tmp_path, learner=lower) as board, learner(board, tmp_path, learner=lower):
        caught_up(board)
        collect(board, 4, stream=b"t" * 16)
        wait_until(lambda: fetch(board).updates >= before + 3,
                   "64 more steps gave 4 more updates of 32, give or take one")
    assert saved(tmp_path).counters["updates"] <= before + 5


def test_training_steps_back_and_heartbeats_do_not(tmp_path):
    with replay(tmp_path) as board:
        collect(board, 6)
        with learner(board, tmp_path, learner={"nice": 3}):
            fetch(board)
            nice = {t.name: os.getpriority(os.PRIO_PROCESS, t.native_id) for t in threading.enumerate()}
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert nice["LearnerService"] == usual + 3
    assert {nice[name] for name in ("feed", "node-learner")} == {usual}


def test_a_replay_that_comes_back_is_found_again(tmp_path):
    with Switchboard() as board, learner(board, tmp_path):
        for stream in (b"s" * 16, b"t" * 16):
            with running(ReplayService(CONFIG, run_folder(tmp_path), control=board.control)):
                collect(board, 4, stream)
                newest = fetch(board)
                newest = fetch(board, newest.version)
            board.addresses.pop("experience")
            board.addresses.pop("samples")


def test_a_batch_is_asked_for_again_when_its_answer_is_lost(tmp_path, monkeypatch):
    """The replay's place is taken by a socket that leaves the first request unanswered."""
    monkeypatch.setattr(feed, "UNANSWERED", 0.2)
    with Switchboard() as board, zmq.Context() as context:
        server = sockets.Server(context, "tcp://127.0.0.1:0", limit=LIMITS["samples"])
        board.addresses["samples"] = server.address
        with learner(board, tmp_path, learner={"prefetch": 1}):
            lost = server.receive(PATIENCE).message
            again = server.receive(PATIENCE).message
        assert again.number > lost.number and again.replayed == lost.replayed == 0
        server.close()


def test_what_is_wrong_with_learning_is_said_once_and_stands_beside_the_state(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(findings, "SETTLED", 0)
    monkeypatch.setattr(findings, "RULES", (findings.Rule("action/deviation", "it moves too little", lowest=1e9),))
    with replay(tmp_path) as board:
        collect(board, 6)
        with learner(board, tmp_path, agent={"diagnose_every": 3}):
            wait_until(lambda: board.states.get("learner") == "waiting ratio; it moves too little", "it was said")
    assert [r.getMessage() for r in caplog.records if "too little" in r.getMessage()] == [
        "after 3 updates: it moves too little"], "once"
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert any({"value/error", "action/deviation", "gradient/encoder"} <= line.keys() for line in lines)
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert {"value/error", "latent/effective_rank", "open_loop/vectors_1"} <= set(board.Tags()["scalars"])
