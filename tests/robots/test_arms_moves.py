"""DayDreamer's moves, and what an arm does by itself between them: on the UR5e's double, in virtual time."""

import mujoco
import numpy as np
import pytest

from robots.arms.moves import NAMES
from robots.arms.tasks import PickPlace, Reach
from robots.arms.world import OBJECT
from robots.driver import Clip, Mode, Stop
from robots.registry import make, make_driver
from robots.ur5e.anatomy import UR5E
from robots.ur5e.driver import UR5eDriver, UR5eOptions

HZ = 2.5
TABLE = UR5E.table + OBJECT  # height of an object's middle on the table


class Player:
    """Plays moves by name, scores them, and lays objects where they are wanted."""

    def __init__(self, objects=1, **options):
        self.driver = UR5eDriver(UR5eOptions(actions="moves", objects=objects, **options), HZ)
        self.driver.connect()
        self.driver.arm()
        self.task, self.rewards, self.clips = PickPlace(), [], Clip.NONE
        self.task.reset()
        self.play(*["noop"] * 4)  # to where moves begin
        self.rewards, self.clips = [], Clip.NONE

    def play(self, *names):
        for name in names:
            applied = self.driver.command(np.int64(NAMES.index(name)))
            self.clips |= applied.clip
            for _ in range(round(self.driver.inner_hz / HZ)):
                self.driver.tick()
            self.values = self.driver.read().values
            self.rewards.append(self.task.score(self.values).reward)
            assert not self.driver.health().fault
        return applied

    def rest(self):
        """Until it is not busy."""
        for _ in range(20):
            if not self.values["busy"][0]:
                return
            self.play("noop")
        raise AssertionError("still busy")

    def lay(self, place, number=0):
        double = self.driver.link
        double._objects[number] = *place, TABLE, 1, 0, 0, 0
        double.data.qvel[8 + 6 * number:14 + 6 * number] = 0
        mujoco.mj_forward(double.model, double.data)

    @property
    def tool(self):
        return self.values["tool_position"]


@pytest.fixture
def player():
    player = Player()
    yield player
    player.driver.stop(Stop.DAMP)
    player.driver.disconnect()


def test_it_begins_above_the_middle_of_a_bin_with_the_tool_down(player):
    (low, high), _ = UR5E.bins
    assert np.allclose(player.tool, [*(low + high) / 2, UR5E.hover], atol=2e-3)
    assert player.values["side"].tolist() == [1, 0] and not player.values["busy"][0]
    down = UR5E.chain.pose(player.values["joint_angles"])[:3, 2]
    assert np.allclose(down, [0, 0, -1], atol=0.01)


@pytest.mark.parametrize("name, moved", [("noop", (0, 0, 0)), ("+x", (0.04, 0, 0)), ("-x", (-0.04, 0, 0)),
                                         ("+y", (0, 0.04, 0)), ("-y", (0, -0.04, 0)), ("-z", (0, 0, -0.04))])
def test_a_step_is_four_centimetres_and_done_within_its_period(player, name, moved):
    before = player.tool
    player.play(name)
    assert np.allclose(player.tool - before, moved, atol=3e-3) and not player.clips


def test_steps_end_at_the_bins_and_between_the_bins_only_hovering_arms_pass(player):
    player.play(*["+x"] * 5)
    assert player.tool[0] == pytest.approx(UR5E.bins[0][1][0], abs=3e-3) and player.clips & Clip.WORKSPACE
    player.play("-z", "-z", *["-x"] * 8)
    assert player.tool[0] == pytest.approx(UR5E.bins[0][0][0], abs=3e-3)
    player.play("+z", "+z", *["-x"] * 8)
    assert player.values["side"].tolist() == [0, 1]


def test_between_the_bins_it_does_not_go_down(player):
    player.play(*["-x"] * 4)
    assert player.values["side"].tolist() == [0, 0]
    player.play("-z", "-z")
    assert player.tool[2] > UR5E.hover - 5e-3 and player.clips & Clip.WORKSPACE


def test_it_picks_an_object_up_carries_it_over_and_places_it_by_discrete_actions_alone(player):
    player.lay(player.tool[:2])
    player.play(*["noop"] * 3)
    before = player.driver.link.truth()["moved"]
    player.play("-z", "-z", "-z", "-z", "toggle")
    player.rest()
    assert player.values["holding"][0] and player.rewards[-1] == 1
    player.play("+z", "+z", "+z", "+z", *["-x"] * 8)
    assert player.driver.link.truth()["objects"][0][2] > TABLE + 0.08 and player.values["side"].tolist() == [0, 1]
    assert not any(player.rewards[-10:])
    player.play("toggle")
    player.rest()
    player.play("noop")
    assert player.rewards.count(10) == 1 and sum(player.rewards) == 11
    (low, high), place = UR5E.bins[1], player.driver.link.truth()["objects"][0]
    assert (low < place[:2]).all() and (place[:2] < high).all() and place[2] == pytest.approx(TABLE, abs=3e-3)
    player.play(*["noop"] * 3)
    assert player.driver.link.truth()["moved"] == player.driver.health().gauges["objects_moved"] == before + 1


def test_dropped_where_it_was_grasped_costs_what_the_grasp_earned_and_the_tool_rises(player):
    player.lay(player.tool[:2])
    player.play("-z", "-z", "-z", "-z", "toggle")
    player.rest()
    applied = player.play("toggle")
    assert NAMES[applied.action] == "toggle"
    applied = player.play("-x")
    assert NAMES[applied.action] == "noop" and applied.clip & Clip.BUSY
    player.rest()
    assert [reward for reward in player.rewards if reward] == [1, -1]
    assert player.tool[2] == pytest.approx(UR5E.hover, abs=3e-3) and player.values["gripper"][0] > 0.95


def test_a_grasp_of_nothing_opens_again_and_earns_nothing(player):
    player.play("toggle")
    assert player.values["gripper"].tolist()[1] == 0 and player.values["busy"][0]
    player.rest()
    assert player.values["gripper"][0] > 0.95 and not any(player.rewards)


def test_what_slips_out_of_the_fingers_is_noticed(player):
    player.lay(player.tool[:2])
    player.play("-z", "-z", "-z", "-z", "toggle")
    player.rest()
    player.play("+z")
    player.lay((-0.4, -0.5))
    player.play("noop", "noop", "noop")
    player.rest()
    assert [reward for reward in player.rewards if reward] == [1, -1] and player.values["gripper"][0] > 0.95


def test_a_step_down_onto_something_gives_way_before_the_controller_stops(player):
    player.lay(player.tool[:2] + np.array([0, 0.045]))  # under a finger
    player.play("-z", "-z", "-z", "-z", "-z", "noop")
    assert player.clips & Clip.TORQUE
    assert player.tool[2] > 0.02  # the ends of the fingers are above the object again
    player.play("+z", "+z", "+z")
    assert player.tool[2] > UR5E.hover - 0.02


@pytest.mark.parametrize("robot", ["ur5e", "xarm"])
def test_whoever_plays_at_random_low_among_objects_does_not_stop_the_controller(robot):
    driver = make_driver(robot, {"actions": "moves", "objects": 5}, control_hz=HZ)
    driver.connect()
    driver.arm()
    random, touches = np.random.default_rng(1), 0
    for name in random.choice(NAMES, 120, p=[0.02, 0.15, 0.15, 0.15, 0.15, 0.05, 0.28, 0.05]):
        touches += bool(driver.command(np.int64(NAMES.index(name))).clip & Clip.TORQUE)
        for _ in range(round(driver.spec.inner_hz / HZ)):
            driver.tick()
        assert not driver.health().fault
    driver.disconnect()
    assert touches


@pytest.mark.parametrize("latency", [0.05, 0.1])
def test_an_arm_that_lags_behind_touches_nothing(latency):
    player = Player(objects=0, latency=latency)
    player.play(*["+x", "-z", "+y", "-x", "+z", "-y"] * 2)
    assert not player.clips & (Clip.TORQUE | Clip.BUSY)


def test_somebody_who_leans_on_the_tool_does_not_keep_it_from_moving(player):
    double = player.driver.link
    double.data.xfrc_applied[double.model.body("gripper").id, 1] = 100
    before = player.tool
    busy = sum(bool(player.play("+x").clip & Clip.BUSY) for _ in range(6))
    assert busy <= 3 and player.clips & Clip.TORQUE
    assert player.tool[0] - before[0] > 0.08


def test_too_long_without_a_grasp_it_goes_back_over_the_middle_of_its_bin():
    player = Player(reset_after=8.0)
    player.play("+x", "+y", "-z", "-z", *["noop"] * 14)
    assert player.clips & Clip.BUSY
    player.rest()
    (low, high), _ = UR5E.bins
    assert np.allclose(player.tool, [*(low + high) / 2, UR5E.hover], atol=3e-3)


def test_what_it_does_by_itself_is_held_by_a_stop_and_then_given_up(player):
    player.play("-z", "-z", "toggle")
    held = player.tool
    for _ in range(3):
        player.driver.stop(Stop.HOLD)
        for _ in range(50):  # a period; fingers that closed on nothing would open by themselves before its end
            player.driver.tick()
        assert not player.driver.health().busy and player.driver.health().mode == Mode.ARMED
    values = player.driver.read().values
    assert np.allclose(values["tool_position"], held, atol=1e-3) and values["gripper"][1] == 0
    player.play("noop")
    player.rest()
    assert player.values["gripper"][1] == 1


def test_random_moves_need_nobody():
    player, random = Player(objects=3, reset_after=20.0), np.random.default_rng(0)
    for _ in range(120):
        player.play(NAMES[random.integers(len(NAMES))])  # asserts that there is no fault
    assert (np.abs(player.driver.link.truth()["objects"]) < 1).all()


def test_an_arm_over_no_bin_can_still_be_led_up():
    """Held in the moment it was armed, it has not gone to a bin."""
    driver = UR5eDriver(UR5eOptions(actions="moves"), HZ)
    driver.connect()
    driver.link._q[:] = UR5E.home + np.array([0, 0.1, 0.05, 0, 0, 0])
    driver.tick()
    driver.arm()
    driver.stop(Stop.HOLD)
    driver.tick()
    below = driver.read().values["tool_position"][2]
    for name in ("-z", "-x", "+z", "+z", "+z"):
        driver.command(np.int64(NAMES.index(name)))
        for _ in range(50):
            driver.tick()
    assert below < UR5E.hover - 0.03 and driver.read().values["tool_position"][2] > UR5E.hover - 0.005
    driver.stop(Stop.DAMP)
    driver.disconnect()


def test_reaching_earns_one_at_the_target_and_targets_move_within_reach():
    driver, task = make("ur5e", "reach", {"bins": False, "gripper": False, "target_every": 2.0}, 10.0, seed=3)
    assert isinstance(task, Reach)
    driver.connect()
    driver.arm()
    targets, rewards = set(), []
    for _ in range(60):
        values = driver.read().values
        away = values["target"] - values["tool_position"]
        driver.command(np.clip(away / 0.05, -1, 1).astype(np.float32))
        for _ in range(12):
            driver.tick()
        targets.add(tuple(values["target"]))
        rewards.append(task.score(driver.read().values).reward)
    low, high = UR5E.workspace
    assert len(targets) == 3 or len(targets) == 4
    assert all((low < target).all() and (target < high).all() for target in np.array(list(targets)))
    assert max(rewards) > 0.95 and min(rewards) < 0.3 and 0 < min(rewards)
    driver.reseed(3)
    driver.stop(Stop.DAMP)
    driver.disconnect()
    driver.connect()
    assert tuple(driver.read().values["target"]) in targets  # the seed's first
    driver.disconnect()


def test_letting_go_between_the_bins_is_a_drop():
    task = PickPlace()
    task.reset()
    score = lambda holding, side: task.score({"holding": np.array([holding]), "side": np.array(side)}).reward  # noqa: E731
    left, right, none = (1, 0), (0, 1), (0, 0)
    assert [score(0, left), score(1, left), score(1, none), score(0, none), score(0, right)] == [0, 1, 0, -1, 0]
    task.reset()
    assert [score(1, left), score(0, right)] == [0, 0]  # held since before the episode: whose grasp was it?
