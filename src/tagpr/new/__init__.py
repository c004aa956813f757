"""`tagpr new FILE`: from a file of users' histories to a recipe that runs."""
