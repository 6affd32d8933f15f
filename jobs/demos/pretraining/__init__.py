"""What a pretrained world model is worth to a policy of the sample world."""
