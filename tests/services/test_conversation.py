"""A robot's side of the talk with the policy server, message by message."""

import numpy as np
import pytest
from gymnasium import spaces

from services.robot.conversation import Conversation
from services.wire.messages import ActRefused, ActReply

BOX = spaces.Box(-1, 1, (2,), np.float32)


def talk(keep=4, space=BOX):
    conversation = Conversation("robot-0", space, keep)
    conversation.begin(b"s" * 16)
    return conversation


def ask(conversation, tick, first=False):
    arrays = {"tilt": np.full(3, tick, np.float32), "prev_action": np.zeros(2, np.float32),
              "is_first": np.bool_(first or tick == 0)}
    return conversation.ask(tick, arrays, time=1000 * tick)


def reply(step, horizon=1, version=7):
    actions = np.arange(step, step + horizon, dtype=np.float32)[:, None] * np.ones(2, np.float32)
    return ActReply(step, version, {"actions": actions})


def test_a_plan_ends_with_its_episode_also_where_it_arrives_later():
    conversation = talk()
    ask(conversation, 0)
    conversation.on_message(reply(0, horizon=8))
    ask(conversation, 1)
    assert conversation.decision(1).action.tolist() == [1, 1]
    ask(conversation, 2, first=True)
    conversation.on_message(reply(1, horizon=8))
    assert conversation.decision(2) is None
    conversation.on_message(reply(2))
    assert conversation.decision(2).observed == 2000


def test_while_nothing_is_missed_one_observation_is_sent():
    conversation = talk()
    for tick in range(6):
        request = ask(conversation, tick)
        assert request.step == tick and request.arrays["tilt"].shape == (1, 3)
        conversation.on_message(reply(tick))
    assert not request.complete


def test_the_first_request_says_that_there_is_nothing_older():
    assert ask(talk(), 0).complete


def test_after_missed_answers_the_observations_since_the_last_one_are_sent():
    conversation = talk()
    ask(conversation, 0)
    conversation.on_message(reply(0))
    ask(conversation, 1)
    request = ask(conversation, 2)
    assert request.arrays["tilt"][:, 0].tolist() == [1, 2] and not request.complete


def test_a_server_without_a_carry_gets_everything_kept_once_per_tick():
    conversation = talk(keep=4)
    for tick in range(6):
        ask(conversation, tick)
        conversation.on_message(reply(tick))
    ask(conversation, 6)
    again = conversation.on_message(ActRefused(6, "need_context"))
    assert again.arrays["tilt"][:, 0].tolist() == [3, 4, 5, 6] and again.complete
    assert conversation.on_message(ActRefused(6, "need_context")) is None
    assert conversation.settled(6)


def test_later_entries_of_a_plan_serve_where_a_reply_is_missed():
    conversation = talk()
    ask(conversation, 0)
    conversation.on_message(reply(0, horizon=3))
    for tick, expected in ((1, 1.0), (2, 2.0)):
        ask(conversation, tick)
        decision = conversation.decision(tick)
        assert decision.action[0] == expected and decision.observed == 0 and decision.weights_version == 7
    ask(conversation, 3)
    assert conversation.decision(3) is None


def test_the_newest_plan_that_reaches_a_tick_wins():
    conversation = talk()
    for tick in range(3):
        ask(conversation, tick)
    conversation.on_message(reply(1, horizon=4, version=2))
    conversation.on_message(reply(0, horizon=4, version=1))
    assert conversation.decision(2).weights_version == 2


def test_a_late_answer_is_no_action_but_tells_where_the_server_stands():
    conversation = talk()
    ask(conversation, 0)
    ask(conversation, 1)
    conversation.on_message(reply(0))
    assert conversation.decision(1) is None and not conversation.settled(1)
    assert ask(conversation, 2).arrays["tilt"][:, 0].tolist() == [1, 2]


@pytest.mark.parametrize("answer", [
    reply(5), ActReply(0, 1, {}), ActReply(0, 1, {"actions": np.zeros((0, 2), np.float32)}),
    ActReply(0, 1, {"actions": np.zeros((1, 3), np.float32)}), ActReply(0, 1, {"actions": np.zeros((1, 2), np.int64)})])
def test_an_answer_to_nothing_asked_or_of_another_shape_changes_nothing(answer):
    conversation = talk()
    ask(conversation, 0)
    conversation.on_message(answer)
    assert conversation.decision(0) is None and not conversation.settled(0) and not conversation.weights_seen


def test_a_new_boot_of_the_body_forgets_plans_and_context():
    conversation = talk()
    ask(conversation, 0)
    conversation.on_message(reply(0, horizon=4))
    conversation.begin(b"t" * 16)
    request = ask(conversation, 1)
    assert conversation.decision(1) is None
    assert request.boot == b"t" * 16 and request.complete and len(request.arrays["is_first"]) == 1


def test_discrete_actions_are_whole_numbers():
    conversation = talk(space=spaces.Discrete(3))
    ask(conversation, 0)
    conversation.on_message(ActReply(0, 1, {"actions": np.array([2])}))
    assert conversation.decision(0).action == 2
