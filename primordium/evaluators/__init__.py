"""What a candidate is worth: tasks, models, gates, training, measurement, workers."""
