"""How the unit tests run: few, always the same examples, no files left behind, no deadline on a busy machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unit", max_examples=40, deadline=None, database=None, derandomize=True)
settings.load_profile("unit")
