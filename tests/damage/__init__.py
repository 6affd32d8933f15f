"""Raw data that is broken, as published datasets are."""
