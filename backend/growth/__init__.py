"""How time and memory grow with a scene and a capture (`benchmark growth`), and what a film would cost (`cost`)."""
