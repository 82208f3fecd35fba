"""What several tests need: places, commands, made-up records, known orders, reports and cards that are none.

Tests import helpers from here, and never from each other.
"""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
PLUGINS = TESTS / "plugins"
DATA = TESTS / "data"
BASELINES = ROOT / "profiles" / "baselines"
