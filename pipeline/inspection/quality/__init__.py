"""What the checks say of a dataset, and the walk through its episodes that feeds them."""
