"""A checkpoint as a policy of a robot: loaded, fed with images and states, asked for actions."""
