"""What goes from one training to another: recorded episodes of a trained policy."""
