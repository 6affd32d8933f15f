"""Leaky builds: each mutant changes a clean tiny build in one way, and names the rule, the level and a part of the
finding, so that none is caught for another reason than its own.

Unless a mutant is about hashes, the attacker repairs every hash, digest and offset: the deeper rule must catch it.
"""

from __future__ import annotations

from tests.leakage.mutants import (
    containers,
    derived,
    exactness,
    field_names,
    free_values,
    hostile,
    identity,
    inputs,
    int8,
    left_out_by_filter,
    manifest,
    spelling,
    targets,
    tubelets,
    windows,
)

MUTANTS = (
    *manifest.MUTANTS,
    *identity.MUTANTS,
    *inputs.MUTANTS,
    *targets.MUTANTS,
    *int8.MUTANTS,
    *tubelets.MUTANTS,
    *derived.MUTANTS,
    *spelling.MUTANTS,
    *containers.MUTANTS,
    *exactness.MUTANTS,
    *field_names.MUTANTS,
    *free_values.MUTANTS,
    *windows.MUTANTS,
    *left_out_by_filter.MUTANTS,
    *hostile.MUTANTS,
)
