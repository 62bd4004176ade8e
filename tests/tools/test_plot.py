"""Learning curves as somebody draws them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="the extra `bench`")
PLOT = Path(__file__).parents[2] / "tools" / "plot.py"
CONFIG = """
name: {name}
seed: {seed}
robot: {{driver: gym, task: env, model_keys: [], options: {{id: x, kwargs: {{task: walker-walk}}}}}}
"""


def run_of(folder: Path, seed: int, scores: list[float]) -> Path:
    run = folder / f"walk-{seed}"
    (run / "lockstep").mkdir(parents=True)
    (run / "config.yaml").write_text(CONFIG.format(name=run.name, seed=seed))
    lines = [{"frames": 5000 * n, "steps": 2500 * n, "seconds": 60.0 * n, "evaluation_return": score}
             for n, score in enumerate(scores, 1)]
    training = {"frames": 1000, "steps": 500, "seconds": 1.0, "training_return": 3.0}
    text = "".join(json.dumps(line) + "\n" for line in [training, *lines])
    (run / "lockstep" / "scores.jsonl").write_text(text)
    return run


def plot(*arguments: object) -> None:
    subprocess.run([sys.executable, PLOT, *map(str, arguments)], check=True, capture_output=True, text=True)


def test_curves_are_drawn_from_runs_and_again_from_what_was_kept_of_them(tmp_path):
    runs = [run_of(tmp_path, seed, [10.0 * seed, 500.0, 900.0][:3 - seed]) for seed in range(2)]
    plot(*runs, "--keep", tmp_path / "curves.csv", "--out", tmp_path / "runs.png")
    plot(tmp_path / "curves.csv", "--out", tmp_path / "kept.png")
    plot(tmp_path / "curves.csv", "--over", "minutes", "--out", tmp_path / "minutes.png")
    kept = (tmp_path / "curves.csv").read_text()
    assert kept.count("walker-walk,walk,0,") == 3 and kept.count("walker-walk,walk,1,") == 2
    pictures = [(tmp_path / f"{name}.png").read_bytes() for name in ("runs", "kept", "minutes")]
    assert pictures[0] == pictures[1] != pictures[2]
