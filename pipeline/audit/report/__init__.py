"""The audit's report: an HTML page with evidence."""
