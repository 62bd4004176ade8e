"""What the YAML files and `--set` say, before anybody asks whether it makes sense.

A file may extend others (`extends: base.yaml`, or a list; relative to the file): sections merge, later values win.
Every value remembers where it came from, so that an error and `daydreamer config show` can name the line. The YAML is
the plain subset that needs no surprises explained: strings, numbers (`1e-4` is one), true, false, null, lists and
mappings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*")  # LeRobot's names have dots
STEP = r'"[^"]+"|[^".]+'  # of a dotted key; one that has a dot itself stands in quotes


class ConfigError(Exception):
    """The configuration is wrong. One line per mistake: where, which key, which value, what is allowed."""


@dataclass(frozen=True)
class Written:
    """Nested `values` as written, and for every dotted key the place it was written at ("a1_walk.yaml:12", "--set")."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def then(self, later: Written) -> Written:
        """Both, where the later one wins."""
        return Written(_merged(self.values, later.values), self.origins | later.origins)


def read(path: str | Path) -> Written:
    """A file and all that it extends. Raises ConfigError."""
    return _read(Path(path), ())


def parse_changes(changes: Iterable[str]) -> Written:
    """`a.b=value` from the command line, or `a."b.c"=value`; the value is YAML, an empty one the empty string. Raises
    ConfigError."""
    written = Written()
    for change in changes:
        key, equals, text = change.partition("=")
        words = _steps(key.strip())
        if not equals or not words or not all(WORD.fullmatch(word) for word in words):
            raise ConfigError(f"--set {change}: write it as key=value, for example learner.train_ratio=32")
        changed = _parse(text, "--set " + key.strip(), ".".join(words)) if text.strip() else Written({"": ""})
        value = changed.values.get("", changed.values)
        for word in reversed(words):
            value = {word: value}
        steps = {".".join(words[:n + 1]): "--set" for n in range(len(words))}
        written = written.then(Written(value, steps | dict.fromkeys(changed.origins, "--set")))
    return written


def dump(values: Mapping[str, Any]) -> str:
    """YAML text that `read` gives back unchanged."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=100, allow_unicode=True)


def _steps(key: str) -> list[str]:
    """The words of a dotted key; none where it is no such key."""
    found = re.fullmatch(rf"(?:{STEP})(?:\.(?:{STEP}))*", key)
    return [word.strip('"') for word in re.findall(STEP, key)] if found else []


def _read(path: Path, below: tuple[Path, ...]) -> Written:
    if path.resolve() in below:
        raise ConfigError(f"{path}: extends: goes in a circle through {', '.join(p.name for p in below)}")
    try:
        written = _parse(path.read_text(encoding="utf-8"), str(path), "", lines=True)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(_unreadable(path, error)) from error
    extends = written.values.pop("extends", [])
    names = [extends] if isinstance(extends, str) else extends
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{written.origins['extends']}: extends: {extends!r}: must be a file name or a list of them")
    base = Written()
    for name in names:
        base = base.then(_read(path.parent / name, (*below, path.resolve())))
    return base.then(written)


def _unreadable(path: Path, error: Exception) -> str:
    if not isinstance(error, FileNotFoundError):
        return f"{path}: cannot be read: {error}"
    others = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f"{path}: no such file" + (f"; {path.parent} has {', '.join(others)}" if others else "")


def _merged(base: Any, later: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(later, dict)):
        return later
    return base | {key: _merged(base[key], value) if key in base else value for key, value in later.items()}


def _parse(text: str, place: str, prefix: str, lines: bool = False) -> Written:
    """The mapping in `text`; where a bare value is as good (`prefix` given), it stands under the key ""."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        origins: dict[str, str] = {}
        value = {} if node is None else _value(loader, node, place, prefix, lines, origins)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if lines and error.problem_mark else ""
        raise ConfigError(f"{place}{line}: not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{place}: not valid YAML: {error}") from error
    finally:
        loader.dispose()
    if not isinstance(value, dict):
        if not prefix:
            raise ConfigError(f"{place}: must hold sections of settings, not a bare {type(value).__name__}")
        return Written({"": value}, origins)
    return Written(value, origins)


def _value(loader: _Loader, node: yaml.Node, place: str, key: str, lines: bool, origins: dict[str, str]) -> Any:
    """The plain value of a node; notes in `origins` where it and all below it stand."""
    here = f"{place}:{node.start_mark.line + 1}" if lines else place
    if key:
        origins[key] = here
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_object(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(loader, item, place, key, lines, origins) for item in node.value]
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        word, line = str(key_node.value), f"{place}:{key_node.start_mark.line + 1}" if lines else place
        below = f"{key}.{word}" if key else word
        if not isinstance(key_node, yaml.ScalarNode) or not WORD.fullmatch(word):
            raise ConfigError(f"{line}: {below}: a key must be a word of letters, digits and underscores")
        if word in values:
            raise ConfigError(f"{line}: {below}: written twice, first at {origins[below]}")
        values[word] = _value(loader, value_node, place, below, lines, origins)
        origins[below] = line
    return values


# The core schema of YAML 1.2: `1e-4` is a number, and `no`, `1:30`, `2024-01-01` are strings.
_RESOLVERS = [
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:null", r"null|~|", "n~\0"),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", "-+0123456789"),
    ("tag:yaml.org,2002:float",
     r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", "-+.0123456789"),
]


class _Loader(yaml.SafeLoader):
    """SafeLoader with the plain scalars above and without aliases."""

    yaml_implicit_resolvers: dict[str, list] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not used here, say extends", mark)
        return super().compose_node(parent, index)

    def construct_float(self, node: yaml.ScalarNode) -> float:
        return float(node.value.replace(".inf", "inf").replace(".nan", "nan"))

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        return int(node.value)


class _Dumper(yaml.SafeDumper):
    """The loader's mirror: quotes exactly the strings that the loader would take for something else."""

    yaml_implicit_resolvers: dict[str, list] = {}

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_float)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
for _tag, _pattern, _starts in _RESOLVERS:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), [s.strip("\0") for s in _starts])
