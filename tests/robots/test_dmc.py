"""Tasks of the DeepMind Control suite as environments, by themselves and as the robot of a config."""

import gymnasium
import numpy as np
import pytest

pytest.importorskip("dm_control", reason="the extra `bench`")

ID = "robots.dmc:dmc-v0"


def make(task="cartpole-swingup", **options):
    return gymnasium.make(ID, task=task, **options)


def episode(env, seed, steps=500):
    """Observations and rewards under actions that follow from the seed."""
    random = np.random.default_rng(seed)
    shown, rewards = [env.reset(seed=seed)[0]], []
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(random.uniform(-1, 1, env.action_space.shape))
        shown.append(obs)
        rewards.append(reward)
        if terminated or truncated:
            break
    return shown, rewards, terminated, truncated


@pytest.mark.parametrize("task", ["cartpole-swingup", "reacher-easy", "ball_in_cup-catch", "walker-walk",
                                  "quadruped-walk", "acrobot-swingup"])
def test_what_a_task_shows_is_in_its_space(task):
    env = make(task)
    shown, *_ = episode(env, 1, 5)
    assert all(env.observation_space.contains(obs) for obs in shown)
    assert all(value.dtype == np.float32 and value.ndim == 1 for value in shown[0].values())
    assert (env.action_space.low == -1).all() and (env.action_space.high == 1).all()


def test_a_seed_determines_an_episode_whatever_was_played_before():
    env, other = make("ball_in_cup-catch"), make("ball_in_cup-catch")
    episode(other, 5, 30)
    (shown, rewards, *_), (again, same, *_) = episode(env, 3, 50), episode(other, 3, 50)
    assert rewards == same
    assert all(np.array_equal(a[key], b[key]) for a, b in zip(shown, again, strict=True) for key in a)


def test_the_time_limit_truncates_after_a_thousand_frames():
    _, rewards, terminated, truncated = episode(make(), 0, 1000)
    assert len(rewards) == 500 and truncated and not terminated


def test_an_action_is_repeated_and_its_rewards_are_summed():
    once, thrice = make(action_repeat=1), make(action_repeat=3)
    first, _ = once.reset(seed=2)
    assert np.array_equal(first["position"], thrice.reset(seed=2)[0]["position"])
    action = np.array([0.5], np.float32)
    rewards = [once.step(action) for _ in range(3)]
    obs, reward, *_ = thrice.step(action)
    assert reward == pytest.approx(sum(r for _, r, *_ in rewards)) and reward > 0
    assert np.array_equal(obs["position"], rewards[-1][0]["position"])


def test_pictures_show_the_state_beside_the_vectors():
    env = make(image=True, depth=True, size=32)
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs) and set(obs) == {"image", "depth", "position", "velocity"}
    assert obs["image"].shape == (32, 32, 3) and obs["depth"].shape == (32, 32, 1)
    for _ in range(20):
        later, *_ = env.step(np.ones(1, np.float32))
    assert (later["image"] != obs["image"]).any() and (later["depth"] != obs["depth"]).any()
    env.close()


def test_several_frames_stand_along_the_channels_the_newest_first():
    env = make(image=True, depth=True, size=48, frames=3)
    first, _ = env.reset(seed=1)
    assert env.observation_space.contains(first) and first["image"].shape == (48, 48, 9)
    assert (first["image"][..., :3] == first["image"][..., 6:]).all() and first["depth"].shape == (48, 48, 3)
    for _ in range(10):
        before, (after, *_) = first, env.step(env.action_space.high)
        assert (after["image"][..., 3:] == before["image"][..., :6]).all()
        first = after
    assert (first["image"][..., :3] != first["image"][..., 6:]).any()
    with pytest.raises(ValueError, match="frames: 0"):
        make(frames=0)


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(ValueError, match="task: cartpole-swing: unknown, did you mean cartpole-swingup"):
        make("cartpole-swing")


def test_without_dm_control_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "dm_control", None)
    with pytest.raises(gymnasium.error.DependencyNotInstalled, match=r"pip install 'daydreamer\[bench\]'"):
        make()
