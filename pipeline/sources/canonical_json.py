"""How JSON is written that is hashed."""

from __future__ import annotations

import json

CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, check_circular=False)
"""What is written holds no cycles; to look for them took a quarter of the time."""
