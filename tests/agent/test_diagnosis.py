"""The diagnosis of an agent through its public door, and what becomes of it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from agent_bench import CONTINUOUS, DISCRETE, SPACE, Echo, batch_of

from daydreamer.agent import Agent, BadObservation
from daydreamer.diagnostics.findings import RULES, SETTLED, find
from daydreamer.diagnostics.watch import Watch
from daydreamer.lockstep import Lockstep, LockstepSettings
from daydreamer.replay.settings import ReplaySettings
from daydreamer.settings import BEHAVIOURS, MODELS, AgentSettings

SETTINGS = AgentSettings(size="debug", horizon=3, imagine_starts=8, warmup=0)
EVERY = [(model, behaviour) for model in MODELS for behaviour in BEHAVIOURS]


@pytest.mark.parametrize("model, behaviour", EVERY)
def test_a_diagnosis_answers_every_question_and_changes_nothing(model, behaviour):
    agent = Agent(SPACE, CONTINUOUS, replace(SETTINGS, model=model, behaviour=behaviour))
    for i in range(2):
        agent.train(batch_of(CONTINUOUS, i, steps=20), burn_in=2)
    before = agent.state_dict()
    told = agent.diagnose(batch_of(CONTINUOUS, 2, steps=20), burn_in=2)
    after = agent.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before | after), "random numbers among them"
    assert all(p.grad is None for p in agent.modules.parameters())
    assert np.isfinite(list(told.values())).all()
    seen = "vectors" if agent.model.spec.offers_decoder else "features"
    assert {"gradient/encoder", "gradient/actor", "latent/surprise", "latent/effective_rank",
            "value/bias", "action/saturated", *(f"open_loop/{seen}_{h}" for h in (1, 5, 15))} <= told.keys()
    assert told["gradient/encoder"] > 0 and (told.get("gradient/critic") or told["gradient/critics"]) > 0


def test_a_discrete_policy_is_diagnosed_as_well():
    told = Agent(SPACE, DISCRETE, SETTINGS).diagnose(batch_of(DISCRETE))
    assert "action/constant" in told and "latent/perplexity" in told and np.isfinite(list(told.values())).all()


def test_a_bad_batch_is_refused_like_in_training():
    batch = batch_of(CONTINUOUS)
    batch["reward"][0, 0] = np.nan
    with pytest.raises(BadObservation, match="reward"):
        Agent(SPACE, CONTINUOUS, SETTINGS).diagnose(batch)


def test_a_reward_offset_is_no_error_of_the_value():
    plain, offset = Agent(SPACE, CONTINUOUS, SETTINGS), Agent(SPACE, CONTINUOUS, replace(SETTINGS, reward_offset=5.0))
    batch = batch_of(CONTINUOUS)
    told = offset.diagnose(batch | {"reward": batch["reward"] + 5})
    assert told == pytest.approx(plain.diagnose(batch), rel=1e-3, abs=1e-5)


def test_an_agent_is_looked_at_when_it_is_due_and_never_when_told_so():
    for every, seen in ((3, [0, 0, 3, 3, 3, 6]), (0, [0] * 6)):
        agent = Agent(SPACE, CONTINUOUS, replace(SETTINGS, diagnose_every=every))
        watch, batch, looked = Watch(agent), batch_of(CONTINUOUS), []
        for _ in range(6):
            agent.train(batch)
            assert watch.look(batch, 0) == (agent.updates == watch.updates)
            looked.append(watch.updates)
        assert looked == seen and bool(watch.figures) == bool(every)


def test_what_is_clearly_wrong_is_said_in_words():
    good = {"action/saturated": 0.3, "latent/effective_rank": 20.0, "latent/deviation": 0.5, "value/error": 0.1,
            "open_loop/vectors_1": 0.2, "gradient/encoder": 1.0, "action/constant": 0.0, "anything": -1e9}
    assert find(good, SETTLED) == []
    bad = good | {"action/saturated": 0.934, "latent/effective_rank": 1.04, "value/error": float("nan")}
    assert find(bad, SETTLED - 1) == [], "a fresh agent knows nothing yet"
    found = find(bad, SETTLED)
    assert [finding.text for finding in found] == [
        "latents have collapsed: they vary in 1.0 directions", "value is off by nan% of the return",
        "actions are saturated: 93% at the edge of their range"]
    assert [(f.figure, f.value) for f in found][::2] == [("latent/effective_rank", 1.04), ("action/saturated", 0.934)]


def test_every_rule_is_about_a_figure_that_there_is():
    told = set()
    for model, behaviour in EVERY:
        agent = Agent(SPACE, CONTINUOUS, replace(SETTINGS, model=model, behaviour=behaviour))
        told |= agent.diagnose(batch_of(CONTINUOUS)).keys()
    assert {rule.figure for rule in RULES} <= told | {"open_loop/images_1"}


def test_a_run_in_lockstep_writes_its_diagnoses_down(tmp_path):
    agent = replace(SETTINGS, diagnose_every=5)
    replay = ReplaySettings(batch=2, length=6, burn_in=2, prefill=40, segment_mib=1)
    seen = []
    with Lockstep(Echo(), agent, replay, LockstepSettings(train_ratio=2.0), tmp_path) as run:
        run.run(200, seen.append)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [line["updates"] for line in lines] == [5, 10, 15, 20, 25]
    assert all({"steps", "loss", "value/error", "open_loop/vectors_5"} <= line.keys() for line in lines)
    assert list(seen[-1].findings) == []
