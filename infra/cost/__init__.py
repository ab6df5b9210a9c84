"""Cost of a prediction, a training and a month: dated prices, measured work, the cheapest sufficient set-up."""
