"""What the server answers: cameras, live views, best shots, and what operators ask for."""
