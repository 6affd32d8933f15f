"""`vlajepa report`: a training run as one page, from `report.html.jinja`."""
