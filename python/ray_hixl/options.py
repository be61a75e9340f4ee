"""Options of an engine. Their table is include/ray_hixl/options.def; ``make stubs`` makes _option_table.py out of it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from typing import Any, NoReturn

from ray_hixl import _core
from ray_hixl._option_table import OptionTable

PREFIX = "RAY_HIXL_"
_NAMES = [info[0] for info in _core.option_infos()]
_OF_ONE_NODE = {"host"}
VARIABLES = [PREFIX + name.upper() for name in _NAMES]


def _to_text(value: object) -> str:
    """An option's value as the environment spells it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ("-" if all(isinstance(part, int) for part in value) and value else ",").join(str(part) for part in value)
    return str(value)


def _no_option(name: str) -> str:
    near = difflib.get_close_matches(name, _NAMES, 1)
    return f"there is no option {name!r}: " + (f"did you mean {near[0]!r}?" if near else "docs/options.md lists them")


def misplaced(given: dict[str, Any]) -> str:
    """What is wrong with keyword arguments of an engine."""
    name, value = next(iter(given.items()))
    return f"options go in as one: Engine(Options({name}={value!r}))" if name in _NAMES else _no_option(name)


class Options(OptionTable):
    """Immutable. Each option takes its argument, else the variable ``RAY_HIXL_<NAME>``, else its default. docs/options.md lists them.

    :raises InvalidArgument: a value out of its range.
    :raises NotAvailable: a value that a later version will take.
    :raises TypeError: there is no such option.
    """

    def _set(self, given: dict[str, Any], unnamed: tuple[Any, ...], unknown: dict[str, Any]) -> None:
        if unnamed:
            raise TypeError("options are given by name: Options(name=value, ...)")
        if unknown:
            raise TypeError(_no_option(next(iter(unknown))))
        core = _core.Options.from_environment()
        for name, value in given.items():
            core.set(name, _to_text(value))
        chosen = {name for name in _NAMES if name in given or PREFIX + name.upper() in os.environ}
        vars(self).update(_core=core, _given=frozenset(given), _chosen=chosen)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        if name in _NAMES:
            raise AttributeError(f"options are fixed once they are made: make new ones, Options({name}=...)")
        raise AttributeError(_no_option(name))

    _given: frozenset[str]
    _chosen: set[str]

    @property
    def core(self) -> _core.Options:
        """What the engine takes."""
        return self._core

    @property
    def chosen(self) -> frozenset[str]:
        """Names of the options that an argument or the environment chose."""
        return frozenset(self._chosen)

    def with_default_host(self, host: str) -> Options:
        """These options, with ``host`` unless an argument or the environment chose one."""
        return self if "host" in self._chosen else Options(**self._values(self._chosen), host=host)

    def to_environment(self) -> dict[str, str]:
        """Variables that give other processes the same options: what was chosen, by argument or environment. ``host`` only by argument: in
        the environment it is one node's own, and the processes may be on others.
        """
        handed_on = self._chosen - (_OF_ONE_NODE - self._given)
        return {PREFIX + name.upper(): text for name, text in self._values(handed_on).items()}

    def differences(self, other: Options) -> str:
        """Which options differ from those of ``other``, for an error: what they are here, and there."""
        here, there = self._values(_NAMES), other._values(_NAMES)
        return ", ".join(f"{name} is {here[name]!r} here, {there[name]!r} was asked for" for name in _NAMES if here[name] != there[name])

    def _values(self, names: Iterable[str]) -> dict[str, Any]:
        """As text, which is what the core reads anyway."""
        return {name: _to_text(getattr(self._core, name)) for name in names}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and self._values(_NAMES) == other._values(_NAMES)

    def __hash__(self) -> int:
        return hash(tuple(self._values(_NAMES).items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._values(self._chosen), self._given)

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={text}' for name, text in self._values(_NAMES).items())})"


def _restore(chosen: dict[str, Any], given: frozenset[str]) -> Options:
    options = Options(**chosen)
    vars(options).update(_given=given)
    return options
