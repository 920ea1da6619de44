"""`python -m tests.docs`: rewrites the parts of the pages that are made from the code."""

from .pages import MADE, ROOT, rewritten

for page, parts in MADE.items():
    text = (ROOT / page).read_text(encoding="utf-8")
    (ROOT / page).write_text(rewritten(text, parts(), page), encoding="utf-8")
