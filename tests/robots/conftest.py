"""Headless rendering is chosen when `robots` is imported, which has to be before mujoco is."""

import robots  # noqa: F401
