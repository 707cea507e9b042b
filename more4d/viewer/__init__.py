"""`more4d view`: items in a browser, by viser. State and rules are plain Python, tested without a browser."""
