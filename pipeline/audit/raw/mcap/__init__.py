"""Recordings of ROS 2 in MCAP files, read a second time from the specifications of MCAP, CDR and ros2msg."""
