"""`tagpr new FILE`: from a file of somebody's histories to a recipe that runs."""
