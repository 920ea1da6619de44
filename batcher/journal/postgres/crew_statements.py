"""The named statements of the crew and its queue, read once from `crew.sql`."""

from __future__ import annotations

import pkgutil
from typing import Final

from ..queries import parse

SQL: Final = parse((pkgutil.get_data(__package__, "crew.sql") or b"").decode())
