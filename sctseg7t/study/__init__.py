"""Studies: a grid of trainings on one data set, each measured on its test part, and what they tell together."""
