"""The ground that everything stands on: types, spaces, settings, the loop. Pure; imports nothing else of jaxrl."""
