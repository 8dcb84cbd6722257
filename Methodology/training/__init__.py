"""TensorFlow lives here: networks, losses, loop, search. Knows nothing of stars' names, tables or estimates."""
