"""What a page is made safe with: names come from files, tables and a service, and may be hostile.

In: values, texts of scripts and styles. Out: JSON that cannot leave its element, the digests that a page's policy allows.
Called by the report's page and the gallery; `text.shown` makes a name fit to be shown.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any


def embedded(value: Any) -> str:
    """JSON that cannot end the element that it stands in."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def source_digest(text: str) -> str:
    """How a content security policy names a script or a style that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
