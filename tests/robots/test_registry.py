from dataclasses import replace

import pytest

from robots.registry import UnknownRobot, driver_class, make, names
from robots.unitree_a1.driver import A1Driver


def test_a_driver_is_found_by_its_name_and_by_its_class():
    assert driver_class("unitree_a1") is driver_class("robots.unitree_a1.driver:A1Driver") is A1Driver
    assert {"gym", "unitree_a1"} <= set(names())


@pytest.mark.parametrize("arguments, told", [
    (("unitree_a2", "walk", {}), r"unitree_a2.*did you mean unitree_a1\?"),
    (("unitree_a1", "wlak", {}), r"wlak.*did you mean walk\?"),
    (("unitree_a1", "walk", {"pos": "back"}), r"pos.*did you mean pose\?"),
    (("no.such.module:Robot", "walk", {}), "no.such.module"),
    (("robots.unitree_a1.driver:Nothing", "walk", {}), "Nothing"),
    (("robots.legs.tasks:Walk", "walk", {}), "is not a robots.driver.Driver"),
    (("zzzzzz", "walk", {}), "gym, .*unitree_a1"),
])
def test_an_unknown_name_is_answered_with_the_nearest(arguments, told):
    with pytest.raises(UnknownRobot, match=told):
        make(*arguments)


@pytest.mark.parametrize("options, told", [
    ({"noise": "much"}, "noise.*float"), ({"pose": 3}, "pose.*str"), ({"noise": True}, "noise.*float"),
    ({"pose": "up"}, "belly")])
def test_an_option_of_the_wrong_kind_is_refused(options, told):
    with pytest.raises(ValueError, match=told):
        make("unitree_a1", "walk", options)


def test_whole_numbers_serve_where_floats_are_asked_for():
    driver, _ = make("unitree_a1", "walk", {"noise": 1})
    assert driver.options.noise == 1


def test_commands_outlive_the_period_of_a_slow_robot():
    slow, _ = make("gym", "env", {"id": "CartPole-v1", "noop": 0}, control_hz=2.0)
    assert slow.spec.command_ttl >= 1.0 and slow.spec.damp_after >= slow.spec.command_ttl
    with pytest.raises(ValueError, match="command_ttl: 0.2 s: at least two control periods"):
        replace(slow.spec, command_ttl=0.2)


def test_a_driver_of_an_installed_package_is_found_by_its_entry_point(tmp_path, monkeypatch):
    installed = tmp_path / "daydreamer_cart-0.1.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: daydreamer-cart\nVersion: 0.1\n")
    (installed / "entry_points.txt").write_text("[daydreamer.robots]\ncart = daydreamer_cart:Cart\n")
    (tmp_path / "daydreamer_cart.py").write_text("from robots.gym import GymDriver as Cart\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "cart" in names() and driver_class("cart").__name__ == "GymDriver"
