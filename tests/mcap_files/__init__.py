"""Recordings of ROS 2, written by the mcap packages themselves."""
