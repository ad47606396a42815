"""What a network looks at: maps, and whether they are faithful. Needs torch."""
