"""What the off-policy behaviour promises beside what every agent does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agent_bench import CONTINUOUS, DISCRETE, SPACE, batch_of, rows_of

from daydreamer.agent import Agent
from daydreamer.settings import AgentSettings

SETTINGS = AgentSettings(model="jepa", behaviour="off_policy", size="debug", warmup=0, discount_horizon=10)


def agent_of(**changes):
    return Agent(SPACE, CONTINUOUS, replace(SETTINGS, **changes))


def test_discrete_actions_are_refused_with_the_way_out():
    with pytest.raises(ValueError, match="off_policy.*actor_critic"):
        Agent(SPACE, DISCRETE, SETTINGS)


def test_it_explores_around_what_it_holds_for_best_and_keeps_on_for_a_while():
    agent = agent_of(noise=0.1, noise_least=0.1, noise_correlation=0.8)
    step = rows_of(batch_of(CONTINUOUS, batch=256), at=7)
    carry, best = agent.initial(256), agent.act(agent.initial(256), *step, mode="mode")[0]
    noises = []
    for _ in range(40):
        actions, carry = agent.act(carry, *step)
        noises.append(actions - best)
    late = np.stack(noises[20:])
    assert late.std() == pytest.approx(0.1, rel=0.1)
    assert np.corrcoef(late[:-1].ravel(), late[1:].ravel())[0, 1] == pytest.approx(0.8, abs=0.05)
    assert np.array_equal(agent.act(carry, *step, mode="mode")[0], best)


def test_the_noise_shrinks_while_it_learns_and_travels_with_the_weights():
    agent, batch = agent_of(noise=0.5, noise_least=0.1, noise_updates=2), batch_of(CONTINUOUS)
    told = [agent.train(batch)["noise"] for _ in range(30)]
    assert told[:2] == pytest.approx([0.5, 0.3]) and told[-1] == pytest.approx(0.1)
    other = agent_of(noise=0.5, noise_least=0.1)
    other.load_acting_state(agent.acting_state())
    assert other.behaviour.spread.item() == pytest.approx(0.1)


def test_a_new_episode_begins_with_new_noise():
    agent, (obs, prev_action, _) = agent_of(), rows_of(batch_of(CONTINUOUS))
    carry = agent.initial(4) | {"noise": torch.full((4, 2), 100.0)}
    first = np.array([True, False, True, False])
    _, carry = agent.act(carry, obs, prev_action, first)
    assert (carry["noise"].abs().amax(1) < 10).tolist() == first.tolist()


@pytest.mark.parametrize("ends", ["is_terminal", "is_last"])
def test_the_critics_learn_what_an_ending_means(ends):
    """A reward of one for ever: behind a terminal step nothing comes, behind the end of a recording it goes on."""
    agent = agent_of(learning_rate=3e-3, slow_rate=0.2)
    for i in range(300):
        batch = batch_of(CONTINUOUS, i, batch=16)
        batch |= {flag: np.zeros((16, 10), bool) for flag in ("is_first", "is_last", "is_terminal")}
        batch["is_last"][:, 1::2] = batch["is_first"][:, 2::2] = True
        batch["is_terminal"] = batch["is_last"] if ends == "is_terminal" else batch["is_terminal"]
        told = agent.train(batch | {"reward": np.ones((16, 10), np.float32)})
    assert told["value"] < 1.5 if ends == "is_terminal" else told["value"] > 4


def test_what_lies_behind_the_end_of_an_episode_explains_nothing_before_it():
    """Rewards beyond the border are made huge: the world model's losses at steps before it stay as they were."""
    agent = agent_of()
    for i in range(3):
        agent.train(batch_of(CONTINUOUS, i))
    batch = {key: torch.from_numpy(np.asarray(x)) for key, x in batch_of(CONTINUOUS).items()}
    batch["is_first"][:], batch["is_first"][:, 5] = False, True
    other = {key: x.clone() for key, x in batch.items()}
    other["reward"][:, 5:] += 1000
    other["angles"][:, 5:] += 1
    for name, loss in agent.model.loss(batch, agent.model.initial(4))[0].items():
        changed = agent.model.loss(other, agent.model.initial(4))[0][name]
        assert torch.equal(loss[:, :5], changed[:, :5]) and (name == "continuation" or not torch.equal(loss, changed))
