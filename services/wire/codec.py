"""Messages as frames: `[envelope][array 0][array 1]...`, without a copy of any array.

The envelope is a msgpack map: `v` [major, minor], `t` the message's type name, `f` its fields, and `a` one
`[name, dtype, shape]` per array. An array's frame is its bytes in C order, little endian.

Foreign bytes are believed in one order only: how much, then what kind, then how large, then the values; whatever does
not fit raises a WireError, before memory is taken for it. Nothing here can run code of a peer. Any thread may call.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_type_hints

import msgpack
import numpy as np

from daydreamer.replay.chunk import DTYPES
from services.wire import messages
from services.wire.errors import BadField, Malformed, TooLarge, UnknownMessage, WireError, WrongVersion
from services.wire.fields import Arrays, Check, check_for

Frame = bytes | memoryview

MAX_MESSAGE = 256 << 20
MAX_ENVELOPE = 1 << 20
MAX_ARRAYS = 64
MAX_FRAMES = 1 + MAX_ARRAYS
MAX_NAME = 64
MAX_NDIM = 5


def encode(message: Any) -> list[Frame]:
    """The frames of a message. Array frames are views: the arrays must not change until the frames are gone.

    Raises BadField for what the other side would not accept, TooLarge for an envelope out of bounds.
    """
    plan = _plan(type(message))
    values = {name: field.check(getattr(message, name), f"{plan.name}.{name}") for name, field in plan.fields.items()}
    arrays = _outgoing(message.arrays, plan.name) if plan.has_arrays else {}
    specs = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    envelope = msgpack.packb({"v": messages.VERSION, "t": plan.name, "f": values, "a": specs})
    if len(envelope) > MAX_ENVELOPE:
        raise TooLarge(f"{plan.name}: an envelope of {len(envelope)} bytes, allowed {MAX_ENVELOPE}")
    return [envelope, *(array.reshape(-1).view(np.uint8).data for array in arrays.values())]


def decode(frames: Sequence[Frame], limit: int = MAX_MESSAGE) -> Any:
    """The message in `frames`, at most `limit` bytes together. Its arrays are read-only views. Raises WireError."""
    _check_bounds(frames, limit)
    version, plan, values, specs = _open(frames[0])
    values = plan.check(values, newer=version > messages.VERSION)
    if plan.has_arrays:
        values["arrays"] = _incoming(specs, frames[1:], plan.name)
    elif specs or len(frames) > 1:
        raise Malformed(f"{plan.name}: carries arrays, but has none")
    return plan.type(**values)


@dataclass(frozen=True)
class _Field:
    check: Check
    required: bool


@dataclass(frozen=True)
class _Plan:
    """How one message type is checked."""

    type: type
    fields: Mapping[str, _Field]
    has_arrays: bool

    @property
    def name(self) -> str:
        return self.type.__name__

    def check(self, values: Any, newer: bool) -> dict[str, Any]:
        """The fields of a peer's message. Unknown fields are left out where the peer is `newer`, else refused."""
        if type(values) is not dict:
            raise Malformed(f"{self.name}: fields are {type(values).__name__}, want a map")
        for name in values:
            if name not in self.fields and not newer:
                raise BadField(f"{self.name}: unknown field {_short(name)}")
        for name, field in self.fields.items():
            if field.required and name not in values:
                raise BadField(f"{self.name}.{name}: missing")
        return {n: f.check(values[n], f"{self.name}.{n}") for n, f in self.fields.items() if n in values}


@cache
def _plan(kind: type) -> _Plan:
    hints = get_type_hints(kind, include_extras=True)
    plain = [f for f in fields(kind) if hints[f.name] != Arrays]
    required = {f.name: f.default is MISSING and f.default_factory is MISSING for f in plain}
    return _Plan(kind, {name: _Field(check_for(hints[name]), required[name]) for name in required}, "arrays" in hints)


@cache
def message_types() -> dict[str, type]:
    """Every message type by name."""
    return {name: kind for name, kind in vars(messages).items() if is_dataclass(kind)}


def _check_bounds(frames: Sequence[Frame], limit: int) -> None:
    if not 1 <= len(frames) <= MAX_FRAMES:
        raise TooLarge(f"{len(frames)} frames, allowed 1 to {MAX_FRAMES}")
    total = sum(len(frame) for frame in frames)
    if total > limit:
        raise TooLarge(f"a message of {total} bytes, allowed {limit}")
    if len(frames[0]) > MAX_ENVELOPE:
        raise TooLarge(f"an envelope of {len(frames[0])} bytes, allowed {MAX_ENVELOPE}")


def _open(envelope: Frame) -> tuple[tuple[int, int], _Plan, Any, Any]:
    """Version, plan, unchecked fields and unchecked array specs."""
    # Without max_array_len a few nested headers would make msgpack allocate gigabytes of list.
    try:
        content = msgpack.unpackb(envelope, strict_map_key=False, max_array_len=256, max_map_len=4096, max_ext_len=0)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise Malformed(f"the envelope is not ours: {type(error).__name__}") from error
    if type(content) is not dict or not {"v", "t", "f", "a"} <= content.keys():
        raise Malformed("the envelope is not a map with v, t, f and a")
    version = _version(content["v"])
    kind = message_types().get(content["t"]) if isinstance(content["t"], str) else None
    if kind is None:
        raise UnknownMessage(f"no message is called {_short(content['t'])}")
    return version, _plan(kind), content["f"], content["a"]


def _version(value: Any) -> tuple[int, int]:
    if type(value) is not list or len(value) != 2 or not all(type(part) is int for part in value):
        raise Malformed("the envelope's version is not [major, minor]")
    if value[0] != messages.VERSION[0]:
        raise WrongVersion(f"the peer speaks version {value[0]}.{value[1]}, this side "
                           f"{messages.VERSION[0]}.{messages.VERSION[1]}; run the same release on both")
    return value[0], value[1]


def _outgoing(arrays: Arrays, where: str) -> Arrays:
    """Contiguous, checked arrays, by name."""
    if len(arrays) > MAX_ARRAYS:
        raise TooLarge(f"{where}: {len(arrays)} arrays, allowed {MAX_ARRAYS}")
    result = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in result.items():
        _spec([name, array.dtype.str, list(array.shape)], where)
    return result


def _incoming(specs: Any, frames: Sequence[Frame], where: str) -> Arrays:
    """The arrays that `specs` describe and `frames` hold, as views."""
    if type(specs) is not list or len(specs) != len(frames):
        raise Malformed(f"{where}: {len(frames)} array frames are not those announced")
    arrays = {}
    for spec, frame in zip(specs, frames, strict=True):
        name, dtype, shape = _spec(spec, where)
        if name in arrays:
            raise BadField(f"{where}.{name}: there twice")
        arrays[name] = _view(frame, dtype, shape, f"{where}.{name}")
    return arrays


def _spec(spec: Any, where: str) -> tuple[str, np.dtype, tuple[int, ...]]:
    """A checked `[name, dtype, shape]`."""
    if type(spec) is not list or len(spec) != 3:
        raise Malformed(f"{where}: an array is announced by [name, dtype, shape]")
    name, dtype, shape = spec
    if type(name) is not str or not 1 <= len(name) <= MAX_NAME:
        raise BadField(f"{where}: an array's name has 1 to {MAX_NAME} characters, got {_short(name)}")
    if type(dtype) is not str or dtype not in DTYPES:
        raise BadField(f"{where}.{name}: dtype {_short(dtype)} is not one of {', '.join(DTYPES)}")
    if type(shape) is not list or len(shape) > MAX_NDIM or not all(type(n) is int and 0 <= n < 2**32 for n in shape):
        raise BadField(f"{where}.{name}: a shape has at most {MAX_NDIM} axes of 0 to 2**32 - 1")
    return name, np.dtype(dtype), tuple(shape)


def _view(frame: Frame, dtype: np.dtype, shape: tuple[int, ...], where: str) -> np.ndarray:
    """`frame` as a read-only array; Python's integers do not overflow, so the sizes are compared as they are."""
    if math.prod(shape) * dtype.itemsize != len(frame):
        raise Malformed(f"{where}: shape {shape} of {dtype.str} is not {len(frame)} bytes")
    if not len(frame):
        if math.prod(max(n, 1) for n in shape) > MAX_MESSAGE:
            raise BadField(f"{where}: an empty array of shape {shape}")
        array = np.empty(shape, dtype)
    else:
        array = np.frombuffer(frame, dtype).reshape(shape)
    if not array.flags.aligned:
        array = array.copy()
    if dtype == np.bool_ and array.size and array.view(np.uint8).max() > 1:
        raise BadField(f"{where}: a bool is 0 or 1")
    array.flags.writeable = False
    return array


def _short(value: Any) -> str:
    """A foreign value for an error text: bounded, and never walked into."""
    return repr(value[:MAX_NAME]) if type(value) is str else f"of type {type(value).__name__}"


__all__ = ["MAX_FRAMES", "MAX_MESSAGE", "Frame", "WireError", "decode", "encode", "message_types"]
