"""`row`: a dataclass whose freezing is left to mypy.

In: a class, as `@row(frozen=True, slots=True)`. Out: the same, made three times as fast as a frozen one, whose `__init__`
goes through `object.__setattr__`. For values that are made once per input; mypy refuses to change them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["row"]

if TYPE_CHECKING:
    from dataclasses import dataclass as row
else:
    from dataclasses import dataclass

    def row(*, frozen: bool, slots: bool):
        return dataclass(slots=slots, unsafe_hash=frozen)
