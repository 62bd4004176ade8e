"""The types a message's fields may have, and the check that each type stands for.

A check takes a value and where it stands, and returns the value or raises BadField. It runs on both sides: a sender
learns of its own mistake at once, a receiver believes nobody.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import numpy as np

from services.wire.errors import BadField


@dataclass(frozen=True)
class Within:
    """The values a number may have, or the lengths a text, bytes, list or dict may have; both ends included."""

    least: int
    most: int


Id = Annotated[bytes, Within(16, 16)]  # a stream or a boot
Count = Annotated[int, Within(0, 2**63 - 1)]
Text = Annotated[str, Within(0, 1 << 19)]
Arrays = dict[str, np.ndarray]

BARE = {  # what a type allows where no Within is given; lengths of str in characters
    int: Within(-(2**63), 2**64 - 1),
    str: Within(0, 1 << 16),
    bytes: Within(0, 1 << 16),
    list: Within(0, 256),
    dict: Within(0, 4096),
}

Check = Callable[[Any, str], Any]


def check_for(hint: Any) -> Check:
    """The check of one annotation: bool, int, float, str, bytes, list[...] or dict[..., ...], bare or `Annotated`."""
    within = None
    if get_origin(hint) is Annotated:
        hint, within = get_args(hint)
    kind = get_origin(hint) or hint
    within = within or BARE.get(kind)
    if kind is bool:
        return _bool
    if kind is float:
        return _float
    if kind is int:
        return lambda value, where: _int(value, where, within)
    if kind in (str, bytes):
        return lambda value, where: _sized(value, where, kind, within)
    if kind is list:
        item = check_for(*get_args(hint))
        return lambda value, where: [item(v, where) for v in _sized(value, where, list, within)]
    if kind is dict:
        key, item = map(check_for, get_args(hint))
        return lambda value, where: {
            key(k, where): item(v, where) for k, v in _sized(value, where, dict, within).items()}
    raise TypeError(f"{hint!r} is no type a message's field may have")


def _bool(value: Any, where: str) -> bool:
    return value if isinstance(value, bool) else _wrong_type(value, where, "bool")


def _float(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        _wrong_type(value, where, "float")
    return float(value)


def _int(value: Any, where: str, within: Within) -> int:
    if type(value) is not int:
        _wrong_type(value, where, "int")
    if not within.least <= value <= within.most:
        raise BadField(f"{where}: got {value}, allowed {within.least} to {within.most}")
    return value


def _sized(value: Any, where: str, kind: type, within: Within) -> Any:
    if type(value) is not kind:
        _wrong_type(value, where, kind.__name__)
    if not within.least <= len(value) <= within.most:
        raise BadField(f"{where}: got length {len(value)}, allowed {within.least} to {within.most}")
    return value


def _wrong_type(value: Any, where: str, want: str) -> types.NoneType:
    raise BadField(f"{where}: got {type(value).__name__}, want {want}")
