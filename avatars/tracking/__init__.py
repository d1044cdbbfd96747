"""From an ordinary video to a capture: where the landmarks lie on the template, and the fit of a whole clip. numpy."""
