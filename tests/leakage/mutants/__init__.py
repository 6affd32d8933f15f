"""A gallery of leaky builds. Each mutant changes a clean tiny build in one way, and says which rule must
notice, at which level, and a word of the finding, so that no mutant is caught for another reason than its own.

Unless a mutant is about hashes, the attacker repairs every hash, digest and offset: the deeper rule has to catch it.
"""

from __future__ import annotations

from tests.leakage.mutants import (
    derived,
    identity,
    inputs,
    int8,
    leaky_code,
    leaky_inputs,
    leaky_int8,
    leaky_targets,
    leaky_videos,
    manifest,
    targets,
    tubelets,
)

MUTANTS = (
    *manifest.MUTANTS,
    *identity.MUTANTS,
    *inputs.MUTANTS,
    *targets.MUTANTS,
    *int8.MUTANTS,
    *tubelets.MUTANTS,
    *derived.MUTANTS,
)

LEAKY_PIPELINES = (
    *leaky_inputs.PIPELINES,
    *leaky_targets.PIPELINES,
    *leaky_videos.PIPELINES,
    *leaky_int8.PIPELINES,
)
"""Builds whose files are in order and whose content is not, made by leaky code or from other raw data."""

LEAKY_CODE = (*leaky_code.PIPELINES, *leaky_int8.CODE)
"""Code that leaks, beside a build that does not."""
