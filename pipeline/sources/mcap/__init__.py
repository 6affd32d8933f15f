"""MCAP files of ROS 2: recordings of messages, one episode a file."""
