"""Bodies: drivers for hardware, MuJoCo doubles, tasks, safety. See driver.py for the contract."""

import os

if not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")  # mujoco reads it when it is first imported
