"""Search for better settings: Optuna studies, packs of trials, populations."""
