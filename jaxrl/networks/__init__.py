"""Networks (flax.linen): torsos that turn observations into features, chosen by name, and the heads on them."""
