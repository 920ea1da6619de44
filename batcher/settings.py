"""What an operation is given: a manifest, and what flags say beyond it.

In: a path, an environment, flags. Out: a `Manifest`, `Settings`. Part of the public API, and apart from what carries an
operation out, so that a command which only looks does not import that. Called by `api`, `assembly` and the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .core.model import Manifest
from .core.planning import Options
from .host.process import require_utf8

if TYPE_CHECKING:
    from .journal.open import State

LEASE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What flags say beyond the manifest. `key` is asked for the API key (None: no key), and again after each 401; where it
    has no other one, so long as `key_wait_s` says, for a file may be replaced a moment late. `max_duration_s` is one deadline
    for the whole run (None: the manifest's). `state`: the folder of the journal, or its address in PostgreSQL (None:
    `.batcher` beside the manifest). `lease_s`: where several runs share a database, how long one of them may say nothing."""

    options: Options = field(default_factory=Options)
    key: Callable[[], str | None] = lambda: None
    state: State | None = None
    ca_file: str | None = None
    max_duration_s: float | None = None
    key_wait_s: float = 0.0
    lease_s: float = LEASE_S


DEFAULT_SETTINGS: Final = Settings()


def load_manifest(
    path: str | os.PathLike[str], *, env: Mapping[str, str] | None = None, endpoint: str | None = None
) -> Manifest:
    """Read a manifest. `env` is what `${NAME}` means (None: nothing). Raises ManifestError with all that is wrong, and
    UsageError in a process whose names of files are not UTF-8: there the same files would be others."""
    from .manifest import load  # yaml, and what reads it: 20 ms

    require_utf8()
    return load(path, env if env is not None else {}, endpoint=endpoint)
