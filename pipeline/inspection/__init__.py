"""What is wrong with a raw dataset."""
