"""What `vlajepa COMMAND setting=value` means: the commands, their help, and their words as settings."""
