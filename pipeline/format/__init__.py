"""What a build is: its samples, file names, columns and build.json. The audit imports nothing else of the pipeline."""
