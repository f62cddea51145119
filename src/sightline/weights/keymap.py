"""The rename engine: a small literal table of (public name, our name) rows, read in both directions.

    KEY_MAPS = (
        KeyMap(
            "torchvision",
            (
                ("backbone.{rest}", "backbone.{rest}"),
                ("classifier.0.convs.{i}.0.weight", "aspp.branches.{i}.conv.weight"),
                ("classifier.0.convs.{i}.1.{leaf}", "aspp.branches.{i}.norm.{leaf}"),
            ),
            ignore=("fc.*",),
        ),
    )

A template is a name with placeholders in braces. One letter stands for a number; `{i+1}`, `{i-1}`, `{2i}`, `{3i+1}`
and `{4-i}` count otherwise on either side. `{rest}` stands for any text, any other word (`{leaf}`) for text without
dots and slashes. Both sides of a row hold the same placeholders, so that every row can be read backwards. The first
row whose template matches a name wins, in either direction: alternatives are further rows, and the first of them is
what `save_weights` writes. A side may be a tuple of templates when several tensors make one (see `regrouped`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

import torch
from torch import Tensor

from sightline.errors import UsageError
from sightline.weights.transforms import Shape, Transform

Side = str | tuple[str, ...]
Row = tuple[Side, Side] | tuple[Side, Side, Transform]
Bindings = tuple[tuple[str, int | str], ...]


@dataclass(frozen=True)
class _Count:
    """A number in a name: factor * value + offset."""

    letter: str
    factor: int
    offset: int

    def value(self, number: int) -> int | None:
        value, rest = divmod(number - self.offset, self.factor)
        return value if rest == 0 and value >= 0 else None


class _Template:
    """One side of a row, compiled: matches a name to values, and makes a name of values."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.parts: list[str | _Count] = []  # literal text at even places, placeholders at odd ones
        pattern = ""
        for place, part in enumerate(re.split(r"\{([^{}]*)\}", text)):
            if place % 2 == 0:
                if "{" in part or "}" in part:
                    raise ValueError(f"'{text}' has a brace without its partner")
                self.parts.append(part)
                pattern += re.escape(part)
            elif re.fullmatch(r"[A-Za-z_]\w+", part):
                self.parts.append(part)
                pattern += "(.+)" if part == "rest" else "([^./]+)"
            else:
                self.parts.append(_count(part, text))
                pattern += "(0|[1-9][0-9]{0,8})"
        if self.parts.count("rest") > 1:
            raise ValueError(f"'{text}' has {{rest}} twice")
        self.pattern = re.compile(pattern, re.DOTALL)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(part.letter if isinstance(part, _Count) else part for part in self.parts[1::2])

    def match(self, name: str) -> Bindings | None:
        found = self.pattern.fullmatch(name)
        if found is None:
            return None
        values: dict[str, int | str] = {}
        for part, text in zip(self.parts[1::2], found.groups()):
            key = part.letter if isinstance(part, _Count) else part
            value = part.value(int(text)) if isinstance(part, _Count) else text
            if value is None or values.setdefault(key, value) != value:
                return None
        return tuple(sorted(values.items()))

    def name(self, bindings: Bindings) -> str | None:
        """The name for these values; None when a number in it would be negative."""
        values, text = dict(bindings), ""
        for place, part in enumerate(self.parts):
            if isinstance(part, _Count):
                number = part.factor * int(values[part.letter]) + part.offset
                if number < 0:
                    return None
                text += str(number)
            else:
                text += part if place % 2 == 0 else str(values[part])
        return text


def _count(text: str, template: str) -> _Count:
    forward = re.fullmatch(r"(\d*)([A-Za-z])([+-]\d+)?", text)
    if forward:
        factor, letter, offset = forward.groups()
        count = _Count(letter, int(factor or 1), int(offset or 0))
    else:
        backward = re.fullmatch(r"(\d+)-(\d*)([A-Za-z])", text)
        if not backward:
            raise ValueError(
                f"'{template}' has '{{{text}}}': write {{i}}, {{i+1}}, {{i-1}}, {{2i}}, {{4-i}}, {{rest}} or a word"
            )
        offset, factor, letter = backward.groups()
        count = _Count(letter, -int(factor or 1), int(offset))
    if count.factor == 0:
        raise ValueError(f"'{template}' has '{{{text}}}', which is always the same number")
    return count


@dataclass(frozen=True)
class _Rule:
    public: tuple[_Template, ...]
    ours: tuple[_Template, ...]
    transform: Transform | None


@dataclass(frozen=True)
class Translation:
    """What a key map made of a file's names.

    ours: our name -> tensor, for names the network has. sources: our name -> the file's names it came from.
    foreign: the file's name -> our name, where the network has no such tensor. ignored, unknown: the file's names.
    failed: our name -> why its tensors could not be converted.
    """

    ours: dict[str, Tensor] = field(default_factory=dict)
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    foreign: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyMap:
    """How the files of one origin name the tensors of a network.

    origin: short and spoken of ("torchvision", "semseg", "google"); what `save_weights(layout=...)` takes.
    rows: (public template, our template[, transform]); see the module's text.
    ignore: globs of public names that are not wanted: "fc.*", "*.num_batches_tracked".
    copies: (public name, public name it repeats) for files that hold a tensor under several names; read from
        whichever is there, written under both.
    prefix, container: what `save_weights` puts before every name, and the entry it wraps the tensors in, so that
        the origin's own code opens the file. Reading finds both by itself.
    words: one sentence for whoever asks what this is.
    lacks: prefixes of our names of parts that files of this origin never hold (the decoder, in a file of a backbone):
        they keep their fresh values, and the report says so.
    verified: whether a public network's answers were met through it; where not, names and shapes alone are tested.

    Raises UsageError for a malformed row.
    """

    origin: str
    rows: tuple[Row, ...]
    ignore: tuple[str, ...] = ()
    words: str = ""
    copies: tuple[tuple[str, str], ...] = ()
    prefix: str = ""
    container: str = ""
    lacks: tuple[str, ...] = ()
    verified: bool = True

    def __post_init__(self) -> None:
        if not self.origin:
            raise UsageError("a key map needs an origin: a short name such as 'torchvision'")
        for pattern in self.ignore:
            if not isinstance(pattern, str) or "{" in pattern:
                raise UsageError(f"key map '{self.origin}': ignore takes globs such as 'fc.*', not {pattern!r}")
        seen: dict[tuple[str, ...], int] = {}
        for number, rule in enumerate(self._rules, 1):
            texts = tuple(template.text for template in rule.public)
            if texts in seen:
                raise UsageError(
                    f"key map '{self.origin}', row {number}: never reached, row {seen[texts]} has the same public name"
                )
            seen[texts] = number
        _ = self._copies

    @cached_property
    def _rules(self) -> tuple[_Rule, ...]:
        return tuple(self._rule(number, row) for number, row in enumerate(self.rows, 1))

    @cached_property
    def _copies(self) -> tuple[tuple[_Template, _Template], ...]:
        rules = [self._rule(number, row, "copy") for number, row in enumerate(self.copies, 1)]
        return tuple((rule.public[0], rule.ours[0]) for rule in rules)

    def _rule(self, number: int, row: Row, kind: str = "row") -> _Rule:
        where = f"key map '{self.origin}', {kind} {number}"
        if not isinstance(row, tuple) or len(row) not in (2, 3):
            raise UsageError(f"{where}: expected (public, ours) or (public, ours, transform), not {row!r}")
        transform = row[2] if len(row) == 3 else None
        if transform is not None and not isinstance(transform, Transform):
            raise UsageError(f"{where}: the third value must be a Transform, not {transform!r}")
        sides = tuple((side,) if isinstance(side, str) else side for side in row[:2])
        for side in sides:
            if not isinstance(side, tuple) or not side or not all(isinstance(text, str) and text for text in side):
                raise UsageError(f"{where}: expected a name or a tuple of names, not {side!r}")
        try:
            public, ours = (tuple(_Template(text) for text in side) for side in sides)
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from error
        templates = (*public, *ours)
        if any(template.names != templates[0].names for template in templates):
            raise UsageError(
                f"{where}: all names must hold the same placeholders, not "
                + ", ".join(f"'{template.text}'" for template in templates)
            )
        if transform is None and len(templates) != 2:
            raise UsageError(
                f"{where}: several names on a side need a transform that joins or splits, e.g. regrouped()"
            )
        return _Rule(public, ours, transform)

    def under(self, public: str = "", ours: str = "") -> tuple[Row, ...]:
        """This map's rows with a prefix on either side: a backbone's names inside a larger network's."""

        def put(prefix: str, side: Side) -> Side:
            return prefix + side if isinstance(side, str) else tuple(prefix + text for text in side)

        pairs = ((put(public, row[0]), put(ours, row[1]), row) for row in self.rows)
        return tuple((a, b, row[2]) if len(row) == 3 else (a, b) for a, b, row in pairs)

    def read(self, tensors: Mapping[str, Tensor], shapes: Mapping[str, Shape]) -> Translation:
        """Translate a file's `tensors` for a network whose tensors have these names and `shapes`."""
        answer = Translation()
        tensors = self._single(tensors, answer)
        groups, unknown = self._grouped(tensors, [rule.public for rule in self._rules])
        answer.unknown.extend(unknown)
        for (number, bindings), found in groups.items():
            rule = self._rules[number]
            targets = [template.name(bindings) for template in rule.ours]
            known = [name for name in targets if name is not None and name in shapes]
            if len(known) < len(targets):
                ours = ", ".join(str(target) for target in targets)
                answer.foreign.update((name, ours) for name in found.values())
            elif len(found) < len(rule.public):
                absent = [template.name(bindings) for place, template in enumerate(rule.public) if place not in found]
                answer.failed.update((name, f"the file has no {absent[0]}") for name in known)
            else:
                self._convert(rule, [found[place] for place in sorted(found)], known, tensors, shapes, answer)
        return answer

    def write(self, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Our `tensors` under this origin's names, and those of our names it has no word for."""
        public: dict[str, Tensor] = {}
        groups, unknown = self._grouped(tensors, [rule.ours for rule in self._rules])
        for (number, bindings), found in groups.items():
            rule = self._rules[number]
            names = [template.name(bindings) for template in rule.public]
            if len(found) < len(rule.ours) or None in names:
                unknown.extend(found.values())
                continue
            values: Sequence[Tensor] = [tensors[found[place]] for place in sorted(found)]
            if rule.transform is not None:
                values = rule.transform.write(values, len(names))
            public.update(zip((str(name) for name in names), values))
        for copy, original in self._copies:
            for name in list(public):
                bindings = original.match(name)
                again = copy.name(bindings) if bindings is not None else None
                if again is not None:
                    public.setdefault(again, public[name])
        return {self.prefix + name: value for name, value in public.items()}, unknown

    def _ignores(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.ignore)

    def _single(self, tensors: Mapping[str, Tensor], answer: Translation) -> dict[str, Tensor]:
        """The file's tensors without the unwanted ones, each under one name only."""
        single: dict[str, Tensor] = {}
        for name, value in tensors.items():
            if self._ignores(name):
                answer.ignored.append(name)
                continue
            original = self._original(name)
            if original != name and original in tensors:
                answer.ignored.append(name)
            else:
                single.setdefault(original, value)
        return single

    def _original(self, name: str) -> str:
        for copy, original in self._copies:
            bindings = copy.match(name)
            first = original.name(bindings) if bindings is not None else None
            name = first if first is not None else name
        return name

    @staticmethod
    def _grouped(
        names: Iterable[str], sides: Sequence[tuple[_Template, ...]]
    ) -> tuple[dict[tuple[int, Bindings], dict[int, str]], list[str]]:
        """Names collected by (row, values of its placeholders), and the names that no row matches."""
        groups: dict[tuple[int, Bindings], dict[int, str]] = {}
        unknown: list[str] = []
        for name in names:
            for number, place, template in (
                (number, place, template) for number, side in enumerate(sides) for place, template in enumerate(side)
            ):
                bindings = template.match(name)
                if bindings is not None:
                    groups.setdefault((number, bindings), {})[place] = name
                    break
            else:
                unknown.append(name)
        return groups, unknown

    @staticmethod
    def _convert(
        rule: _Rule,
        names: Sequence[str],
        targets: Sequence[str],
        tensors: Mapping[str, Tensor],
        shapes: Mapping[str, Shape],
        answer: Translation,
    ) -> None:
        values: Sequence[Tensor] = [tensors[name] for name in names]
        if rule.transform is not None:
            try:
                values = rule.transform.read(values, [shapes[target] for target in targets])
            except (ValueError, RuntimeError, IndexError, TypeError):
                shape = ", ".join(str(tuple(tensors[name].shape)) for name in names)
                reason = f"'{rule.transform.name}' does not fit {names[0]} of shape {shape}"
                answer.failed.update((target, reason) for target in targets)
                return
        for target, value in zip(targets, values):
            before = answer.ours.get(target)
            if before is None:
                answer.ours[target] = value
                answer.sources[target] = tuple(names)
            elif before is not value and not (before.shape == value.shape and torch.equal(before, value)):
                answer.failed[target] = (
                    f"the file holds two different tensors for it, {answer.sources[target][0]} and {names[0]}"
                )
            else:
                answer.ignored.extend(names)


#: Our own names: what `save_weights` writes unless told otherwise.
OURS = KeyMap("sightline", (("{rest}", "{rest}"),), words="this library's own names")
