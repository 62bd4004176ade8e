"""What an A1 learned, from the experience that a run recorded; the run may still be going on.

    python tools/a1_trial.py runs/a1_walk --out docs/results/a1_trial.csv --picture docs/results/a1_trial.png

For the task `walk`: reward per step by minute and by five minutes; for each time that it was laid on its back (or began
there), the seconds until it was upright, and until it stood; for each push, the reward before and after, and the
seconds until it earned as much as before. For the task `run`: speed, falls and return where training reached each of
the marks. Minutes are counted in control periods of the robot. `--picture` needs the extra `bench`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from measurement import Row, report

from daydreamer.replay.stats import columns
from services import config as configs

UPRIGHT = 0.9  # of the vertical that points along the body's own
ON_BACK = -0.5
FALLEN = 0.5  # who is pushed and keeps less than this fell
STANDING = 8.5  # reward per step; folded legs earn 8 at most
STEADY = 1.0  # seconds for which a reward has to last
AROUND = 5.0  # seconds before and after a push
LOST = 0.5  # reward per step; who earns at most so much less than before a push has recovered from it
MARKS = (5_000, 10_000, 20_000, 24_000)  # steps at which the task `run` is looked at
WINDOW = 2_000  # steps before a mark
COLUMNS = ("reward", "up", "tilt", "base_velocity", "disturbances", "is_first", "is_last", "is_terminal")
TURNED, PUSHED = 0, 1


@dataclass(frozen=True)
class Trial:
    """Experience in its order. `values`: recorded columns [steps, ...]; `begins`: the first step of each boot."""

    task: str
    hz: float
    values: dict[str, np.ndarray]
    begins: tuple[int, ...] = (0,)

    @property
    def reward(self) -> np.ndarray:
        """Float [steps]."""
        return self.values["reward"]

    @property
    def upright(self) -> np.ndarray:
        """Float [steps]: 1 upright, -1 on its back."""
        return self.values["up"][:, 2]

    def steps(self, seconds: float) -> int:
        """Control periods in so many seconds."""
        return round(seconds * self.hz)

    def minute(self, step: int) -> float:
        """Of the robot's time, in hundredths."""
        return round(step / self.hz / 60, 2)

    def events(self, kind: int) -> np.ndarray:
        """The steps before which it was TURNED or PUSHED."""
        if "disturbances" not in self.values:
            return np.zeros(0, int)
        done = np.diff(self.values["disturbances"][:, kind], prepend=0) > 0
        done[list(self.begins)] = False
        return np.flatnonzero(done)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--out", type=Path, help="a CSV file to add the figures to")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--baselines", type=Path, default=Path("docs/results/a1_baselines.csv"))
    arguments = parser.parse_args()
    trial = read(arguments.run)
    report([{"run": arguments.run.resolve().name, **row} for row in figures(trial)], arguments.out)
    if arguments.picture:
        from plot_a1_trial import draw

        draw(trial, arguments.baselines, arguments.picture)


def read(run: Path) -> Trial:
    """The trial in a run's folder, in real time or in lockstep. Raises LogError, ConfigError."""
    robot, lockstep = configs.load(run / "config.yaml").robot, run / "lockstep" / "replay"
    streams = columns(lockstep if lockstep.is_dir() else run / "replay", COLUMNS)
    lengths = [len(stream["reward"]) for stream in streams]
    values = {name: np.concatenate([stream[name] for stream in streams]) for name in streams[0]}
    return Trial(robot.task, robot.control_hz, values, tuple(int(n) for n in np.cumsum([0, *lengths[:-1]])))


def figures(trial: Trial) -> list[Row]:
    """All there is to tell; `what` says of what a row is."""
    rows = [{"what": f"{length} min", "minute": minute * length, "reward_per_step": round(float(reward), 3)}
            for length in (1, 5) for minute, reward in enumerate(by_minutes(trial, length), 1)]
    if trial.task == "run":
        return [*rows, *at_marks(trial)]
    laid, pushed = list(recoveries(trial)), list(pushes(trial))
    return [*rows, *laid, *pushed, *summary("laid on its back", laid), *summary("pushed", pushed)]


def summary(what: str, rows: list[Row]) -> Iterator[Row]:
    """Medians of rows over those that have a value, with how many there are: one row, or none of none."""
    if rows:
        names = [name for name in rows[0] if name not in ("what", "minute", "fell")]
        found = {name: [row[name] for row in rows if row[name] != ""] for name in names}
        medians = {name: round(float(np.median(values)), 2) if values else "" for name, values in found.items()}
        yield {"what": f"{what}, medians", "times": len(rows), **medians} | (
            {"fell": sum(row["fell"] for row in rows)} if what == "pushed" else {"stood": len(found["standing_s"])})


def by_minutes(trial: Trial, length: int) -> np.ndarray:
    """Reward per step of each full stretch of `length` minutes."""
    size = trial.steps(60 * length)
    full = len(trial.reward) // size
    return trial.reward[:full * size].reshape(full, size).mean(1)


def recoveries(trial: Trial) -> Iterator[Row]:
    """Of each time that it lay on its back and somebody else was why, until the next: seconds until it was upright, and
    until it stood for a while from then on; empty where it did not."""
    began = {step: "began on its back" for step in trial.begins if trial.upright[step] < ON_BACK}
    laid = began | {int(step): "turned" for step in trial.events(TURNED)}
    starts = sorted(laid)
    for start, end in zip(starts, [*starts[1:], len(trial.reward)]):
        on_back = start + 1  # the body's attitude may be a moment old in the first reading
        standing = _lasting(trial.reward[on_back:end] >= STANDING, trial.steps(STEADY))
        yield {"what": laid[start], "minute": trial.minute(start),
               "upright_s": _seconds(trial, _first(trial.upright[on_back:end] > UPRIGHT)),
               "standing_s": _seconds(trial, _first(standing))}


def pushes(trial: Trial) -> Iterator[Row]:
    """Of each push that met it upright, and was not followed by the next disturbance too soon to tell."""
    pushed, around = trial.events(PUSHED), trial.steps(AROUND)
    others = np.sort(np.concatenate([pushed, trial.events(TURNED), trial.begins, [len(trial.reward)]]))
    for step in pushed:
        end = int(others[others > step][0])
        before, after = trial.reward[max(0, step - around):step], trial.reward[step:end]
        if end < step + around or not before.size or trial.upright[step - 1] < UPRIGHT:
            continue
        steady = _means(after, trial.steps(STEADY)) >= before.mean() - LOST
        yield {"what": "pushed", "minute": trial.minute(step), "before": round(float(before.mean()), 2),
               "after": round(float(after[:around].mean()), 2), "recovered_s": _seconds(trial, _first(steady)),
               "fell": int(trial.upright[step:step + around].min() < FALLEN)}


def at_marks(trial: Trial) -> Iterator[Row]:
    """Speed along the heading as the robot estimates it, falls, and mean return of the episodes that ended, over the
    steps before each mark. A step that begins an episode arrived nowhere; who lies where one begins fell before."""
    values, arrived = trial.values, ~trial.values["is_first"].astype(bool)
    speed = np.cos(values["tilt"][:, 1]) * values["base_velocity"][:, 0]
    earned = np.cumsum(trial.reward * arrived)
    collected = np.cumsum(arrived)
    ends = np.flatnonzero(values["is_last"] & arrived)
    returns = np.diff(earned[ends], prepend=0)
    for mark in (mark for mark in MARKS if mark <= collected[-1]):
        recent = (collected > mark - WINDOW) & (collected <= mark) & arrived
        of_recent = returns[recent[ends]]
        yield {"what": "run", "steps": mark, "metres_per_second": round(float(speed[recent].mean()), 3),
               "falls_per_minute": round(float(values["is_terminal"][recent].mean()) * trial.hz * 60, 2),
               "return": round(float(of_recent.mean()), 1) if of_recent.size else "", "episodes": len(of_recent)}


def _first(true: np.ndarray) -> int | None:
    return int(true.argmax()) if true.any() else None


def _lasting(true: np.ndarray, steps: int) -> np.ndarray:
    """Where `steps` in a row begin that are all true."""
    return _means(true.astype(float), steps) == 1


def _means(values: np.ndarray, steps: int) -> np.ndarray:
    """The mean of each `steps` values in a row, from each on that has as many."""
    if len(values) < steps:
        return np.zeros(0)
    sums = np.cumsum(np.concatenate([[0.0], values]))
    return (sums[steps:] - sums[:-steps]) / steps


def _seconds(trial: Trial, step: int | None) -> float | str:
    return "" if step is None else round((step + 1) / trial.hz, 2)


if __name__ == "__main__":
    main()
