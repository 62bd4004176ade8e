"""What the tool says of experience that was made up."""

import numpy as np


def test_a_target_is_reached_by_who_is_near_it_when_its_time_ends(tool):
    target = np.repeat(np.eye(3), 10, axis=0)  # three targets for ten steps each; the last one's time has not ended
    tool_position = target + [0.3, 0, 0]
    tool_position[9] = target[9] + [0, 0.03, 0]
    tool_position[10:15] = target[10:15]  # was there, and left again
    found = tool.reach({"target": target, "tool_position": tool_position})
    assert found == {"targets": 2, "reached": 0.5, "median_cm": 16.5}


def test_moves_of_objects_are_counted_by_what_they_earned(tool):
    assert tool.pick_place({"reward": np.array([0, 1, 10, 0, 1, -1, 1, 10.0])}) == {
        "grasped": 3, "placed": 2, "dropped": 1}


def test_a_ball_that_was_not_seen_is_nowhere(tool):
    found = tool.navigate({"ball_position": np.array([[0.5, 0.5], [-1, -1], [0.5, 0.1]]),
                           "ball_lost": np.array([[0], [1], [0]]), "goal": np.full((3, 2), 0.5)})
    assert found == {"distance": 0.2, "lost": 1}


def test_before_the_first_target_ended_there_is_nothing_to_tell(tool):
    still = {"target": np.zeros((5, 3)), "tool_position": np.ones((5, 3))}
    assert tool.reach(still) == {"targets": 0, "reached": "", "median_cm": ""}
