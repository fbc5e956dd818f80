"""Other libraries on the same work: libraries.py installs and runs them; each *_peer.py runs inside its own environment."""
