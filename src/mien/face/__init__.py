"""The recognizer: pictures in, emotions out. Imports nothing of the laboratory."""
