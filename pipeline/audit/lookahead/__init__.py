"""Inputs of the raw data that show the future: channels of the state, cameras (rules L1, L3, L8)."""
