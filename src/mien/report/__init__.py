"""Numbers -> plots, pages, cards and sentences: the one room that speaks; templates hold the words."""
