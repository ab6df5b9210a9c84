"""What a prediction, a training and a month cost: dated prices, measured work, and the cheapest set-up that will do."""
