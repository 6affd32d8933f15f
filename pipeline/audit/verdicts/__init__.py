"""Verdicts as files: written, signed, kept, and asked for before a build is used."""
