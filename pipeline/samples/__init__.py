"""An episode -> windows and the student's inputs."""
