"""What experience looks like at rest and in flight: columns of steps.

A stream is one unbroken boot of one robot. Its steps are numbered from zero and cut into chunks, which are numbered
from zero without gaps. A chunk holds the same columns for each of its steps; the schema says which.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gymnasium import spaces

DTYPES = ("|b1", "|u1", "|i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8")

# Beside the signals and the action, every step carries these.
BOOKKEEPING = {
    "action_age": ("<f4", ()),  # seconds from the observation an applied action was chosen for to its application
    "clip": ("<u4", ()),  # robots.driver.Clip
    "intervention": ("|b1", ()),
    "is_first": ("|b1", ()),
    "is_last": ("|b1", ()),
    "is_terminal": ("|b1", ()),
    "reward": ("<f4", ()),
    "time": ("<i8", ()),  # monotonic nanoseconds of the robot's clock
    "weights_version": ("<i8", ()),  # -1: no weights, explored at random; -2: held
}


class SchemaError(Exception):
    """Data is not what was agreed on: other columns, or steps that are not numbered on."""


@dataclass(frozen=True)
class Column:
    """One named array per step: `dtype` as in `DTYPES`, `shape` without the step axis."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @cached_property
    def step_bytes(self) -> int:
        """Bytes of one step."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Schema:
    """The columns of a run, sorted by name. Two robots with the same schema fill the same replay."""

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, columns: Mapping[str, tuple[str, tuple[int, ...]]]) -> Schema:
        """From name -> (dtype, shape). Raises SchemaError for a dtype that is not in `DTYPES`."""
        for name, (dtype, _) in columns.items():
            if dtype not in DTYPES:
                raise SchemaError(f"column {name}: dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        return cls(tuple(Column(n, d, tuple(int(x) for x in s)) for n, (d, s) in sorted(columns.items())))

    @classmethod
    def of_spaces(cls, signals: spaces.Dict, action: spaces.Space) -> Schema:
        """The step of a robot with these signals and this action space, with the bookkeeping of every step.

        A discrete action is stored as one int64.
        """
        def entry(space: spaces.Space) -> tuple[str, tuple[int, ...]]:
            return np.dtype(space.dtype).newbyteorder("<").str, tuple(space.shape)

        taken = sorted(set(signals) & (set(BOOKKEEPING) | {"action", "action_requested"}))
        if taken:
            raise SchemaError(f"signals {', '.join(taken)}: these names belong to the step itself; rename the signals")
        actions = {"action": entry(action), "action_requested": entry(action)}
        return cls.of({name: entry(space) for name, space in signals.items()} | actions | BOOKKEEPING)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The inverse of `to_json`. Raises SchemaError."""
        try:
            return cls.of({str(n): (str(d), tuple(s)) for n, d, s in json.loads(text)})
        except (ValueError, TypeError) as error:
            raise SchemaError(f"not a schema: {error}") from error

    def difference(self, wanted: Schema) -> str:
        """The first column in which a log of this schema is not what is wanted, in words; empty: equal."""
        have, want = ({c.name: f"{c.dtype} {list(c.shape)}" for c in schema.columns} for schema in (self, wanted))
        for name in sorted(have | want):
            if have.get(name) != want.get(name):
                return f"column {name}: the log holds {have.get(name, 'none')}, wanted is {want.get(name, 'none')}"
        return ""

    def to_json(self) -> str:
        """Canonical: equal schemas have equal text."""
        return json.dumps([[c.name, c.dtype, list(c.shape)] for c in self.columns], separators=(",", ":"))

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that name this schema."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    def check(self, columns: Mapping[str, np.ndarray]) -> int:
        """The number of steps in `columns`; raises SchemaError that names the first column that does not fit."""
        names = [c.name for c in self.columns]
        if sorted(columns) != names:
            odd = sorted(set(columns) ^ set(names))
            raise SchemaError(f"columns {', '.join(odd)}: missing or not in schema {self.digest}")
        steps = {len(columns[n]) if np.ndim(columns[n]) else -1 for n in names}
        if len(steps) != 1 or (n := steps.pop()) < 1:
            raise SchemaError(f"columns must share one step axis of at least one step, got lengths {sorted(steps)}")
        for column in self.columns:
            array = columns[column.name]
            if array.dtype != np.dtype(column.dtype) or array.shape[1:] != column.shape:
                raise SchemaError(f"column {column.name}: got {array.dtype.str} {array.shape[1:]}, "
                                  f"want {column.dtype} {column.shape}")
        return n


@dataclass(frozen=True)
class Chunk:
    """Consecutive steps of one stream. `columns`: name -> array with leading step axis [n, ...]."""

    stream: bytes  # 16 bytes, one unbroken boot of one robot
    sequence: int  # contiguous from 0 within the stream
    first_step: int
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.columns["is_first"])
