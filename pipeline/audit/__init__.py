"""The leakage audit. It trusts nothing the pipeline computed: every number is derived again from bytes."""
