"""How the unit tests run: few, always the same examples, no files left behind, no deadline on a busy machine."""

from __future__ import annotations

from pathlib import Path

from hypothesis import configuration, settings

configuration.set_hypothesis_home_dir(Path(__file__).parents[2] / ".cache" / "hypothesis")
settings.register_profile("unit", max_examples=40, deadline=None, database=None, derandomize=True)
settings.load_profile("unit")
