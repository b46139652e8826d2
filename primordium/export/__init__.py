"""What the user takes home: exported module files and model surgery."""
