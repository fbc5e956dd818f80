"""What is trained, by name and value: registry, presets, what can be varied."""
