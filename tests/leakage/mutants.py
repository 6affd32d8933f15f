"""A gallery of leaky builds. Each mutant changes a clean tiny build (world ROBOT) in one way, and says which rule must
notice, at which level, and a word of the finding, so that no mutant is caught for another reason than its own.

Unless a mutant is about hashes, the attacker repairs every hash, digest and offset: the deeper rule has to catch it.
"""

from __future__ import annotations

from tests.leakage import identity_mutants, inputs_mutants, manifest_mutants, targets_mutants

MUTANTS = (
    *manifest_mutants.MUTANTS,
    *identity_mutants.MUTANTS,
    *inputs_mutants.MUTANTS,
    *targets_mutants.MUTANTS,
)
