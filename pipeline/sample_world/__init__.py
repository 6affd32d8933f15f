"""A small tabletop world that writes real Something-Something-v2 and LeRobot folders, for tests and demonstrations."""
