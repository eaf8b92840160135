"""Scores of label maps: integer counts pooled over all pictures, then one division. Knows nothing of models."""
