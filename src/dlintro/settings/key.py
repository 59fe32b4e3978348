"""The rows of the table of keys. A row is a dataclass field: its annotation is the key's type, `key(...)` the rest."""

import math
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Effect = Literal["result", "file", "code", "none"]
NAMES = {int: "int", float: "float", bool: "bool", str: "text", dict: "group"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key and all that is known about it.

    `kind` is int, float, bool, choice or text, a list of one of these ("int list"), or "group" for a whole config
    group. `low` and `high` are inclusive; with `above`, `low` itself is not legal. `words` are legal in addition.
    `only` names the options of its group that have the key.

    `effect` says what a change of the value affects. "result" affects the result, so the key enters a run's hash.
    "file" and "code" name a file of the user's ("code" is run). That file may move before a run is resumed, but in a
    sweep another path makes another job. "none" only affects how the run is carried out. `may_change` allows a change
    nevertheless: when a run is resumed ("resume") or when a sweep is started again ("sweep").

    `test` says what scripts/evaluate uses the key for: "images" selects the test images, "reading" only affects how
    they are read, "" is not used.
    """

    name: str
    kind: str
    meaning: str
    low: float = 0
    high: float = 0
    above: bool = False
    null: bool = False
    words: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    length: tuple[int, int] = (0, 10)  # for lists
    pattern: str = ""  # for texts
    example: str = ""
    effect: Effect = "result"
    may_change: Literal["", "resume", "sweep"] = ""
    test: Literal["", "images", "reading"] = ""

    @property
    def group(self) -> str:
        return self.name.partition(".")[0]

    @property
    def argument(self) -> str:
        """The key's name within its group."""
        return self.name.rpartition(".")[2]

    def legal(self) -> str:
        """Describe the legal values as a phrase that can follow "use"."""
        base, is_list = self.kind.removesuffix(" list"), self.kind.endswith(" list")
        words = [*self.words, *(["null"] if self.null and not is_list else [])]
        if base in ("int", "float"):
            low, high = (f"{int(end):,}" if end == int(end) else f"{end:g}" for end in (self.low, self.high))
            noun = "whole number" if base == "int" else "number"
            limits = f"above {low}, up to {high}" if self.above else f"from {low} to {high}"
            words.insert(0, f"{noun}s {limits}" if is_list else low if low == high else f"a {noun} {limits}")
        elif base in ("bool", "text"):
            words[:0] = ["true", "false"] if base == "bool" else [self.example or "a text"]
        comma = "," if base in ("int", "float", "text") else ""
        said = either(words, comma)
        if is_list:
            least, most = self.length
            num = f"{most} " if least == most else f"{least} to {most} " if least else ""
            said = f"a list of {num}{said}, typed '{self.name}=[...,...]'"
        return said

    def owners(self) -> str:
        """Name the options that have the key: "model=flatnet, mnist_cnn or vgg16"."""
        return f"{self.group}={either(self.only)}"

    def accepts(self, value: Any) -> bool:
        if value is None:
            return self.null
        if self.kind.endswith(" list"):
            element = self.kind.removesuffix(" list")
            return (
                isinstance(value, Sequence)
                and not isinstance(value, str)
                and self.length[0] <= len(value) <= self.length[1]
                and all(self._accepts_one(element, item) for item in value)
            )
        return self._accepts_one(self.kind, value)

    def _accepts_one(self, kind: str, value: Any) -> bool:
        if isinstance(value, str) and kind != "text":
            return value in self.words
        if kind == "bool":
            return isinstance(value, bool)
        if kind == "text":
            return isinstance(value, str) and bool(re.fullmatch(self.pattern or r".+", value, re.DOTALL))
        if isinstance(value, bool) or not isinstance(value, (int,) if kind == "int" else (int, float)):
            return False
        return (
            (isinstance(value, int) or math.isfinite(value))
            and self.low <= value <= self.high
            and not (self.above and value == self.low)
        )


def either(words: Sequence[str], comma: str = "") -> str:
    return f"{', '.join(words[:-1])}{comma} or {words[-1]}" if len(words) > 1 else words[0]


def key(meaning: str, low: float = 0, high: float = 0, *, default: Any = MISSING, **facts: Any) -> Any:
    """Make a row. `facts` are the other attributes of Key. `default` is only for classes that Python code makes too:
    all defaults are in conf/, and a test compares the two."""
    metadata = {"meaning": meaning, "low": low, "high": high, **facts}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


def group(kind: type) -> Any:
    """Make a group whose rows are the fields of `kind`. Its values stay a mapping: the arguments of another class."""
    return field(metadata={"rows": kind})


def rows(kind: type, prefix: str = "") -> Iterator[Key]:
    """Yield the rows of a dataclass and of the dataclasses inside it, in order."""
    hints = get_type_hints(kind)
    for row in fields(kind):
        inner = row.metadata.get("rows", hints[row.name])
        if is_dataclass(inner):
            yield from rows(inner, f"{prefix}{row.name}.")  # type: ignore[arg-type]
        elif row.metadata:
            yield Key(name=prefix + row.name, **row.metadata, **from_annotation(hints[row.name]))


def from_annotation(hint: Any) -> dict[str, Any]:
    """Translate an annotation into Key's attributes: `int | Literal["auto"] | None` is an int, "auto" or null."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    found: dict[str, Any] = {"null": type(None) in parts}
    for part in parts:
        if get_origin(part) is Literal:
            found |= {"words": get_args(part)}
        elif get_origin(part) is list:
            inner = from_annotation(get_args(part)[0])
            found |= inner | {"kind": f"{inner['kind']} list", "null": found["null"]}
        elif part is not type(None):
            found |= {"kind": NAMES[get_origin(part) or part]}
    return {"kind": "choice", **found}


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) for every leaf. Lists and empty mappings count as leaves."""
    for name, value in config.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
