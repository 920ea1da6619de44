"""`python -m tests.docs`: rewrites the README's tables from the code."""

from pathlib import Path

from batcher.cli.reference import rewritten

README = Path(__file__).parents[2] / "README.md"
README.write_text(rewritten(README.read_text(encoding="utf-8")), encoding="utf-8")
