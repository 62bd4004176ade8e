"""What options of the command line stand for: settings, and lengths of time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from services import config as configs
from services import embodiment
from services.config import Config, ConfigError


def settings_of(path: Path, changes: Sequence[str] | None, *, name: str = "", seed: int | None = None,
                count: int | None = None, steps: int | None = None, episode_steps: int | None = None,
                which: str = "", double: str = "") -> Config:
    """The config, with the options that stand for a setting. What `--robot` or `--double` puts in the place of a double
    in this process has a clock of its own: `speed: auto` is 1 there."""
    named = {"name": name or None, "seed": seed, "robot.count": count, "training.steps": steps,
             "training.episode_steps": episode_steps}
    given = [*(changes or ()), *(f"{key}={value}" for key, value in named.items() if value is not None)]
    settings, link = configs.load(path, given), _link(which, double)
    if link is not None and embodiment.takes_link(settings, link):
        settings = configs.load(path, [*given, f"robot.options.link={link}"])
    if settings.robot.speed == configs.AUTO and link not in (None, "direct"):
        return replace(settings, robot=replace(settings.robot, speed=1.0))
    return settings


def _link(which: str, double: str) -> str | None:
    """The kind of link that `--robot` and `--double` ask for; None where they ask for none. Raises ConfigError."""
    if which not in ("", "hardware", "double"):
        raise ConfigError(f"--robot {which}: hardware or double")
    if double not in ("", "direct", "protocol"):
        raise ConfigError(f"--double {double}: direct or protocol")
    if which == "hardware" and double:
        raise ConfigError(f"--robot hardware is no double; leave out --double {double}")
    return "hardware" if which == "hardware" else double or ("direct" if which else None)


def parse_duration(text: str) -> float:
    """Seconds of 90, 90s, 10m, 2h or 1h30m. Raises ConfigError."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not found or not any(found.groups()):
        raise ConfigError(f"--for {text}: write it as 90s, 10m, 2h or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in found.groups())
    return 3600 * hours + 60 * minutes + seconds
