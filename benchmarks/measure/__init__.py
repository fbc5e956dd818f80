"""One measurement a file. NAME.py has PARTS: {name: function(smoke) -> rows}, run and kept by harness/runner.py."""
