"""Cost of a prediction, a training and a month, and the cheapest sufficient set-up."""
