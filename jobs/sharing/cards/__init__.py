"""The pages beside what is pushed: README.md with a header that the Hub reads."""
