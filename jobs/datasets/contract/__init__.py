"""What a policy must be told of a build, and must fit."""
