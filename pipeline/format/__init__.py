"""What a build is: its samples, file names, columns, settings and build.json. The audit imports this and the errors."""
