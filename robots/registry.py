"""From a name in a config to a driver, a task and checked options.

A name is one of the built-in ones, one of the entry-point group `daydreamer.robots` of an installed package, or
`module:Class`. Vendor SDKs are imported only when their driver is asked for.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import typing
from collections.abc import Iterable, Mapping
from importlib.metadata import entry_points
from typing import Any

from robots.driver import Driver
from robots.task import Task

GROUP = "daydreamer.robots"
BUILT_IN = {
    "gym": "robots.gym:GymDriver",
    "lerobot": "robots.lerobot.driver:LeRobotDriver",
    "sphero": "robots.sphero.driver:SpheroDriver",
    "unitree_a1": "robots.unitree_a1.driver:A1Driver",
    "unitree_go2": "robots.unitree_go2.driver:Go2Driver",
    "ur5e": "robots.ur5e.driver:UR5eDriver",
    "xarm": "robots.xarm.driver:XArmDriver",
}


class UnknownRobot(ValueError):
    """No such driver, task or option; the text names the nearest one."""


def names() -> list[str]:
    """Every driver that can be named without its module."""
    return sorted({*BUILT_IN, *(point.name for point in entry_points(group=GROUP))})


def driver_class(name: str) -> type[Driver]:
    """The driver called `name`. Raises UnknownRobot."""
    path = {point.name: point.value for point in entry_points(group=GROUP)}.get(name, BUILT_IN.get(name, name))
    module, colon, attribute = path.partition(":")
    if not colon:
        raise UnknownRobot(f"driver: {_unknown(name, names())}; a driver of your own is named module:Class")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UnknownRobot(f"driver: {name}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Driver)):
        raise UnknownRobot(f"driver: {name}: {path} is not a robots.driver.Driver")
    return found


def task_class(driver: type[Driver], name: str) -> type[Task]:
    """The driver's task called `name`. Raises UnknownRobot."""
    if name not in driver.tasks:
        raise UnknownRobot(f"task: {_unknown(name, driver.tasks)}")
    return driver.tasks[name]


def make_driver(driver: str, options: Mapping[str, Any], control_hz: float = 20.0, seed: int = 0) -> Driver:
    """A driver that is not yet connected, from a config's values. Raises UnknownRobot, ValueError (a bad option)."""
    found = driver_class(driver)
    return found(checked(found.Options, options), control_hz=control_hz, seed=seed)


def make(driver: str, task: str, options: Mapping[str, Any], control_hz: float = 20.0,
         seed: int = 0) -> tuple[Driver, Task]:
    """A driver and its task. Raises UnknownRobot, ValueError (a bad option)."""
    found = task_class(driver_class(driver), task)
    return make_driver(driver, options, control_hz, seed), found()


def checked(options: type, values: Mapping[str, Any]) -> Any:
    """The dataclass `options` filled with `values`: keys must exist, values have the type of the field."""
    kinds = typing.get_type_hints(options)
    fields = {field.name: kinds[field.name] for field in dataclasses.fields(options)}
    for name, value in values.items():
        if name not in fields:
            raise UnknownRobot(f"options: {_unknown(name, fields)}")
        _check_type(name, value, fields[name])
    return options(**values)


def _check_type(name: str, value: Any, kind: Any) -> None:
    origin = typing.get_origin(kind)
    plain = (kind,) if isinstance(kind, type) and origin is None else (origin,) if isinstance(origin, type) else None
    if plain is None or isinstance(value, plain) and (kind is bool or not isinstance(value, bool)):
        return
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return
    raise ValueError(f"options: {name}: {value!r} is not of type {getattr(kind, '__name__', kind)}")


def _unknown(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1, 0.4)
    return f"{name}: unknown, " + (f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(known))}")
