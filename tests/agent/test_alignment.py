"""Does every number belong to its step? From the environment, by way of the replay, into model and behaviour.

Where it matters there is a counterpart: with the same thing one step late, what is tested for cannot be learned.
"""

import numpy as np
import pytest
import torch
from agent_bench import Echo
from toys import DISCOUNT_HORIZON, Border, Countdown, Endless, Recall, Trap, batches

from daydreamer.agent import Agent
from daydreamer.lockstep import uniform
from daydreamer.settings import AgentSettings

pytestmark = pytest.mark.learning
MODELS = ("rssm", "jepa")
REMEMBERING = ("rssm",)  # models that keep of the past what the present does not show
LEARNERS = (("rssm", "actor_critic"), ("jepa", "off_policy"))


def trained(env, experience, burn_in=1, **settings):
    """An agent that had one update with each batch, and how badly it explained the rewards of the last tenth."""
    env = uniform(env)
    frugal = {"size": "debug", "learning_rate": 1e-2, "warmup": 20, "horizon": 1, "imagine_starts": 1}
    agent = Agent(env.observation_space, env.action_space, AgentSettings(**frugal | settings))
    losses = [agent.train(batch, burn_in)["loss/reward"] for batch in experience]
    return agent, np.mean(losses[-len(losses) // 10:])


def late(experience, key):
    """The same with the flags, or the actions, one step late."""
    return [batch | {key: np.roll(batch[key], 1, axis=1)} for batch in experience]


@torch.no_grad()
def imagined(agent, batch, ask, action=None):
    """What the model says (`ask`: its reward or continuation) on arriving where an action leads, else a random one:
    the mean over the batch."""
    model, first = agent.model, torch.ones(len(batch["reward"]), dtype=torch.bool)
    obs = {"observation": torch.from_numpy(batch["observation"][:, 0])}
    actions = torch.rand(len(first), 1) * 2 - 1 if action is None else torch.full((len(first), 1), action)
    state, _ = model.observe(model.initial(len(first)), torch.zeros(len(first), 1), model.encode(obs), first)
    return ask(model, model.imagine_step(state, actions)).mean().item()


def reward(model, state):
    return model.reward(state)


def continuation(model, state):
    return model.continuation(state)


@torch.no_grad()
def values(agent, seen):
    """The values of first observations [N, ...]."""
    model, count = agent.model, len(seen)
    embeds = model.encode({"observation": torch.from_numpy(seen)})
    start = torch.zeros(count, agent.action_space.shape[0]), embeds, torch.ones(count, dtype=torch.bool)
    state, _ = model.observe(model.initial(count), *start)
    return agent.behaviour.value(model, state).numpy()


@pytest.mark.parametrize("model", MODELS)
def test_a_reward_is_explained_by_the_action_before_it_and_by_no_other(tmp_path, model):
    """One step off, this reward is a coin toss, which is 0.69 nats worse. (Its price when all is well, 0.35, is that of
    a one, which lies between two bins.)"""
    experience = batches(Echo(), tmp_path, 150)
    assert trained(Echo(), experience, model=model)[1] < 0.5
    assert trained(Echo(), late(experience, "prev_action"), model=model)[1] > 0.9


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_learned_across_the_border_of_two_episodes(tmp_path, model):
    """Who learned from an episode's last step that the next pays 0, as is stored for a first one, expects less than
    the 1 that every step pays."""
    experience = batches(Border(), tmp_path, 100)
    random = np.random.default_rng(0)
    for batch in experience:  # whatever was done before an episode must not matter
        batch["prev_action"][batch["is_first"]] = random.uniform(-1, 1)
    right, _ = trained(Border(), experience, model=model)
    wrong, _ = trained(Border(), late(experience, "is_first"), model=model)
    assert imagined(right, experience[0], reward) == pytest.approx(1, abs=0.05)
    assert imagined(wrong, experience[0], reward) < 0.8


@pytest.mark.parametrize("model", MODELS)
def test_an_end_is_expected_from_the_action_that_leads_to_it(tmp_path, model):
    experience = batches(Trap(), tmp_path, 120)
    right, _ = trained(Trap(), experience, model=model)
    assert imagined(right, experience[0], continuation, 0.8) < 0.2
    assert imagined(right, experience[0], continuation, 0.2) > 0.6, "how far an action goes is seen, not only where"
    wrong, _ = trained(Trap(), late(experience, "is_terminal"), model=model)
    assert imagined(wrong, experience[0], continuation, 0.8) > 0.5


@pytest.mark.parametrize("model", REMEMBERING)
def test_the_steps_before_a_window_tell_its_first_steps_what_to_expect(tmp_path, model):
    """Without them, two of the three rewards of a window are a coin toss."""
    experience = batches(Recall(), tmp_path, 350, batch=16, length=3, burn_in=2)
    cold = [{key: x[:, 2:] for key, x in batch.items()} for batch in experience[:150]]
    assert trained(Recall(), experience, burn_in=2, model=model)[1] < 0.5
    assert trained(Recall(), cold, burn_in=0, model=model)[1] > 0.7


@pytest.mark.parametrize("model, behaviour", LEARNERS)
def test_the_value_is_what_is_still_paid_until_the_end(tmp_path, model, behaviour):
    agent, _ = valued(Countdown(), tmp_path, model, behaviour, updates=400)  # after 300 it depends on the processor
    discount, told = 1 - 1 / DISCOUNT_HORIZON, values(agent, np.eye(5, dtype=np.float32)[1:])
    for left, value in enumerate(told[:2], 1):
        assert value == pytest.approx((1 - discount ** left) / (1 - discount), abs=0.5), "one step off is 0.9 or more"
    assert 2.2 < told[3] < 4, "3.4 with four steps left"


@pytest.mark.parametrize("model, behaviour", LEARNERS)
def test_an_episode_that_is_cut_off_goes_on_in_the_value(tmp_path, model, behaviour):
    """What goes on for ever is worth 10; what ends after 4 steps, 3.4 at most."""
    agent, experience = valued(Endless(), tmp_path, model, behaviour)
    assert 6 < values(agent, experience[0]["observation"][:, 0]).mean() < 11


def valued(env, folder, model, behaviour, updates=300):
    """An agent whose critic had time to learn, and what it learned from."""
    experience = batches(env, folder, updates)
    agent, _ = trained(env, experience, model=model, behaviour=behaviour, horizon=4, imagine_starts=16, slow_rate=0.1,
                       learning_rate=3e-3, discount_horizon=DISCOUNT_HORIZON)
    return agent, experience
