"""Points on a body's surface and the joints they follow."""
