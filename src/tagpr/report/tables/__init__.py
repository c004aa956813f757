"""Every table, from results alone."""
