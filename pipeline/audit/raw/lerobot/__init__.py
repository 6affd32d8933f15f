"""LeRobot v2.0, v2.1 and v3.0, read a second time by the audit."""
