"""Commands about raw datasets: sources, inspect, sample-data."""
