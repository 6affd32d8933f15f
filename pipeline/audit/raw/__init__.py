"""Raw data as the audit reads it: a second reading of each format, shared with nothing that made the build."""
