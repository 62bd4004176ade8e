"""The agent through its public door."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from agent_bench import CONTINUOUS, DISCRETE, SPACE, batch_of, rows_of
from gymnasium import spaces

from daydreamer.agent import Agent, BadObservation, BadWeights, NonFiniteLoss
from daydreamer.settings import AgentSettings, LossScales

SPACES = CONTINUOUS, DISCRETE
SETTINGS = {model: AgentSettings(model=model, size="debug", horizon=3, imagine_starts=5, warmup=5)
            for model in ("rssm", "tiny")}
SETTINGS["jepa"] = replace(SETTINGS["tiny"], model="jepa")
OFF_POLICY = {f"{model} off_policy": replace(settings, behaviour="off_policy") for model, settings in SETTINGS.items()}
SETTINGS |= OFF_POLICY


def agent_of(action_space=CONTINUOUS, model="rssm", seed=0):
    return Agent(SPACE, action_space, SETTINGS[model], seed=seed)


@pytest.mark.parametrize(("model", "action_space"), [(model, space) for model in SETTINGS for space in SPACES
                                                     if not (model in OFF_POLICY and space is DISCRETE)])
def test_training_resumes_bit_for_bit(model, action_space):
    whole, half = agent_of(action_space, model), agent_of(action_space, model)
    for i in range(3):
        whole.train(batch_of(action_space, i), burn_in=2)
        half.train(batch_of(action_space, i), burn_in=2)
    resumed = agent_of(action_space, model, seed=99)
    resumed.load_state_dict(half.state_dict())
    for i in range(3, 6):
        expected = whole.train(batch_of(action_space, i), burn_in=2)
        assert resumed.train(batch_of(action_space, i), burn_in=2) == expected
    assert resumed.updates == whole.updates == 6
    ours, theirs = resumed.state_dict(), whole.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours | theirs)
    step = rows_of(batch_of(action_space))
    assert np.array_equal(resumed.act(resumed.initial(4), *step)[0], whole.act(whole.initial(4), *step)[0])


def test_a_saved_state_is_a_snapshot():
    agent = agent_of()
    saved, weights = agent.state_dict(), agent.acting_state()
    before = {name: tensor.clone() for name, tensor in (saved | weights).items()}
    agent.train(batch_of(CONTINUOUS))
    assert all(torch.equal(tensor, before[name]) for name, tensor in (saved | weights).items())


@pytest.mark.parametrize("action_space", [CONTINUOUS, DISCRETE], ids=["continuous", "discrete"])
def test_actions_lie_in_the_action_space(action_space):
    agent, batch = agent_of(action_space), batch_of(action_space, batch=64)
    for mode in ("sample", "mode"):
        actions, carry = agent.act(agent.initial(64), *rows_of(batch), mode=mode)
        assert all(action_space.contains(action) for action in actions), (actions.dtype, actions.shape)
        assert all(len(x) == 64 for x in carry.values())


def test_a_carry_can_be_stacked_and_split():
    agent, batch = agent_of(model="tiny"), batch_of(CONTINUOUS)  # deterministic, so that rows can be compared
    obs, prev_action, is_first = rows_of(batch)
    together, carry = agent.act(agent.initial(4), obs, prev_action, is_first, mode="mode")
    for i in range(4):
        row = slice(i, i + 1)
        one = {key: x[row] for key, x in obs.items()}, prev_action[row], is_first[row]
        alone, single = agent.act(agent.initial(1), *one, mode="mode")
        np.testing.assert_allclose(alone, together[row], atol=1e-6)
        for key in carry:
            torch.testing.assert_close(single[key], carry[key][row])


def test_a_carry_is_rebuilt_from_the_steps_it_came_from():
    agent, batch = agent_of(model="tiny"), batch_of(CONTINUOUS)
    carry = agent.initial(4)
    for t in range(10):
        _, carry = agent.act(carry, *rows_of(batch, t))
    obs = {key: batch[key] for key in SPACE}
    rebuilt = agent.observe(agent.initial(4), obs, batch["prev_action"], batch["is_first"])
    for key in carry:
        torch.testing.assert_close(rebuilt[key], carry[key])


def test_who_takes_over_the_acting_weights_acts_the_same():
    trained, policy, batch = agent_of(seed=1), agent_of(seed=2), batch_of(CONTINUOUS)
    for i in range(3):
        trained.train(batch_of(CONTINUOUS, i))
    weights = trained.acting_state()
    assert all(t.dtype == torch.float32 and t.is_contiguous() and t.device.type == "cpu" for t in weights.values())
    assert not any("decoder" in name or "critic" in name for name in weights)
    policy.load_acting_state(weights)
    policy.generator.set_state(trained.generator.get_state())
    step = rows_of(batch)
    assert np.array_equal(policy.act(policy.initial(4), *step)[0], trained.act(trained.initial(4), *step)[0])


def test_weights_of_another_agent_are_refused_and_change_nothing():
    agent, step = agent_of(model="tiny"), rows_of(batch_of(CONTINUOUS))
    before = agent.act(agent.initial(4), *step, mode="mode")[0]
    weights = {name: tensor + 1 for name, tensor in agent.acting_state().items()}
    name = sorted(weights)[-1]
    for bad in ({k: v for k, v in weights.items() if k != name}, weights | {"odd": torch.zeros(1)},
                weights | {name: torch.zeros(3, 3, 3)}):
        with pytest.raises(BadWeights, match=f"{name}|odd"):
            agent.load_acting_state(bad)
    with pytest.raises(BadWeights, match="generator|updates"):
        agent.load_state_dict({})
    assert np.array_equal(agent.act(agent.initial(4), *step, mode="mode")[0], before)


def test_a_bad_observation_is_named_and_changes_nothing():
    agent, batch = agent_of(), batch_of(CONTINUOUS)
    obs, prev_action, is_first = rows_of(batch)
    before = agent.state_dict()
    poisoned = obs["tilt"].copy()
    poisoned[2, 1] = np.nan
    with pytest.raises(BadObservation, match="tilt.*not finite.*2") as error:
        agent.act(agent.initial(4), obs | {"tilt": poisoned}, prev_action, is_first)
    assert error.value.key == "tilt" and error.value.rows == (2,)
    with pytest.raises(BadObservation, match="angles.*missing"):
        agent.act(agent.initial(4), {"tilt": obs["tilt"]}, prev_action, is_first)
    with pytest.raises(BadObservation, match="tilt.*shape"):
        agent.act(agent.initial(4), obs | {"tilt": obs["tilt"][:, :1]}, prev_action, is_first)
    for key in ("tilt", "reward", "prev_action"):
        bad = batch[key].copy()
        bad[1, 3] = np.inf
        with pytest.raises(BadObservation, match=key):
            agent.train(batch | {key: bad})
    after = agent.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_discrete_action_that_does_not_exist_is_refused():
    agent, (obs, prev_action, is_first) = agent_of(DISCRETE), rows_of(batch_of(DISCRETE))
    with pytest.raises(BadObservation, match="prev_action.*0 to 2"):
        agent.act(agent.initial(4), obs, prev_action + 3, is_first)


def test_a_loss_that_is_not_finite_skips_the_update():
    agent, batch = agent_of(), batch_of(CONTINUOUS)
    agent.train(batch)
    with torch.no_grad():
        agent.model.decoder.vector[-1].bias.fill_(float("inf"))
    before = agent.state_dict()
    with pytest.raises(NonFiniteLoss) as error:
        agent.train(batch)
    assert error.value.metrics["loss/decoder"] == float("inf")
    after = agent.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before if name != "generator")
    assert agent.updates == 1


def test_the_same_seed_makes_the_same_agent_whatever_else_draws_numbers():
    first = agent_of(seed=3)
    torch.manual_seed(123)
    second = agent_of(seed=3)
    drawn = torch.rand(1)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values()))
    torch.manual_seed(123)
    assert torch.equal(drawn, torch.rand(1)), "building an agent leaves the global generator alone"


def test_the_slow_critic_follows_the_critic():
    agent = agent_of()
    for i in range(20):
        agent.train(batch_of(CONTINUOUS, i))
    fast, slow = agent.behaviour.critic.body[-1].weight, agent.behaviour.slow_critic.body[-1].weight
    assert 0 < slow.norm() < fast.norm(), "both began at zero"


def test_advantages_are_measured_on_the_scale_of_the_returns():
    agent = Agent(SPACE, CONTINUOUS, replace(SETTINGS["rssm"], learning_rate=1e-2))
    batches = [batch_of(CONTINUOUS, i) for i in range(60)]
    told = [agent.train(b | {"reward": np.float32(1000) * (b["angles"][..., 0] > 0)}) for b in batches]
    assert told[0]["return_scale"] == 1 and told[-1]["return_scale"] > 1


def test_a_reward_offset_is_taken_off_before_anything_is_learned():
    plain, offset = agent_of(), Agent(SPACE, CONTINUOUS, replace(SETTINGS["rssm"], reward_offset=5.0))
    batch = batch_of(CONTINUOUS)
    told = offset.train(batch | {"reward": batch["reward"] + 5})
    assert told == pytest.approx(plain.train(batch), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("starts", [0, 1, 1000])
def test_imagination_starts_from_some_or_all_states(starts):
    settings = AgentSettings(size="debug", horizon=2, imagine_starts=starts)
    assert np.isfinite(list(Agent(SPACE, CONTINUOUS, settings).train(batch_of(CONTINUOUS)).values())).all()


def test_bfloat16_trains_as_well():
    settings = AgentSettings(size="debug", horizon=2, precision="bfloat16", loss_scales=LossScales(policy=2.0))
    metrics = Agent(SPACE, CONTINUOUS, settings).train(batch_of(CONTINUOUS))
    exact = Agent(SPACE, CONTINUOUS, AgentSettings(size="debug", horizon=2)).train(batch_of(CONTINUOUS))
    assert metrics["loss/decoder"] == pytest.approx(exact["loss/decoder"], rel=0.05)


def test_images_are_seen_and_learned_from():
    space = spaces.Dict(image=spaces.Box(0, 255, (16, 16, 3), np.uint8),
                        depth=spaces.Box(0, 9, (16, 16, 1), np.float32))
    agent = Agent(space, DISCRETE, AgentSettings(size="debug", horizon=2, warmup=0, learning_rate=3e-3))
    batch = batch_of(DISCRETE)
    batch |= {"image": np.full((4, 10, 16, 16, 3), 200, np.uint8)}
    batch |= {"depth": np.full((4, 10, 16, 16, 1), 3.0, np.float32)}
    losses = [agent.train(batch)["loss/decoder"] for _ in range(30)]
    assert losses[-1] < 0.2 * losses[0]
    actions, _ = agent.act(agent.initial(4), {key: batch[key][:, 0] for key in space}, *rows_of(batch)[1:])
    assert actions.dtype == np.int64 and actions.shape == (4,)


@pytest.mark.parametrize("observation, action, told", [
    (spaces.Dict(a=spaces.Discrete(3)), CONTINUOUS, "observation a"),
    (spaces.Dict(a=spaces.Box(-np.inf, np.inf, (16, 16, 1), np.float32)), CONTINUOUS, "image a: bounds"),
    (spaces.Dict(a=spaces.Box(0, 1, (15, 16, 1), np.float32)), CONTINUOUS, "image of 15 x 16"),
    (spaces.Dict(a=spaces.Box(0, 1, (16, 16, 1)), b=spaces.Box(0, 1, (32, 32, 1))), CONTINUOUS, "a, b"),
    (SPACE, spaces.Box(-2, 2, (3,), np.float32), "action space"),
    (SPACE, spaces.MultiBinary(3), "action space"),
])
def test_a_space_that_no_model_can_read_is_named(observation, action, told):
    with pytest.raises(ValueError, match=told):
        Agent(observation, action, SETTINGS["rssm"])


@pytest.mark.parametrize("field, value", [("model", "lstm"), ("size", "huge"), ("horizon", 0), ("learning_rate", 0.0),
                                          ("unimix", 1.5), ("precision", "int8"), ("imagine_starts", -1)])
def test_a_setting_outside_its_range_is_named_with_what_is_allowed(field, value):
    with pytest.raises(ValueError, match=f"{field}: {value}: "):
        AgentSettings(**{field: value})
