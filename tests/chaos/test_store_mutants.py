"""Are the tests any good? Each wrong version of the scripts must be noticed, by the test that claims to.

`AGNT5_TEST_MUTANT=<name>` runs any test against a mutant by hand.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.mutants import MUTANTS, mutated

from agnt5.store.scripts import NAMES, script

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_still_fits_the_scripts(name):
    assert any(mutated(script(known).source, MUTANTS[name]) != script(known).source for known in NAMES)


@pytest.mark.chaos
@pytest.mark.parametrize("name", MUTANTS)
def test_a_mutant_is_noticed(name):
    env = {**os.environ, "AGNT5_TEST_MUTANT": name, "AGNT5_TEST_EXAMPLES": "200"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", MUTANTS[name].caught_by]
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 1, f"nobody noticed: {name}\n{ran.stdout[-2000:]}"
    assert "AssertionError" in ran.stdout or "Error" in ran.stdout
